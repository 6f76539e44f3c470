use serde::Deserialize;
use utoipa::ToSchema;

use crate::features::records::organization_domains::{DomainName, DomainProblem, MOST_DOMAINS};

/// A domain as a request brings it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = OrganizationDomainData)]
pub struct DomainData {
    pub domain: String,
    /// `verified`: you vouch for it. `pending`: DNS is to prove it.
    pub state: DomainDataState,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrganizationDomainDataState)]
pub enum DomainDataState {
    Pending,
    Verified,
}

/// Domains that cannot be given to an organization: the field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainsProblem {
    TooMany(&'static str),
    Repeated(String),
    Name(String, DomainProblem),
}

/// All domains the request wants the organization to have, each with whether the caller vouches for it; `None` when it says nothing of
/// them. The older field `domains` names them without a word on their state, so nobody vouches for those.
pub fn decide_domains(
    domains: Option<Vec<String>>,
    domain_data: Option<Vec<DomainData>>,
) -> Result<Option<Vec<(DomainName, bool)>>, DomainsProblem> {
    let (name, given): (&'static str, Vec<(String, String, bool)>) = match (domain_data, domains) {
        (Some(data), _) => {
            let place = |n: usize| format!("domain_data[{n}].domain");
            let each = |(n, data): (usize, DomainData)| (place(n), data.domain, data.state == DomainDataState::Verified);
            ("domain_data", data.into_iter().enumerate().map(each).collect())
        }
        (None, Some(names)) => {
            ("domains", names.into_iter().enumerate().map(|(n, domain)| (format!("domains[{n}]"), domain, false)).collect())
        }
        (None, None) => return Ok(None),
    };
    if given.len() > MOST_DOMAINS {
        return Err(DomainsProblem::TooMany(name));
    }
    let mut wanted: Vec<(DomainName, bool)> = Vec::with_capacity(given.len());
    for (field, text, vouched) in given {
        match DomainName::parse(&text) {
            Err(problem) => return Err(DomainsProblem::Name(field, problem)),
            Ok(domain) if wanted.iter().any(|(other, _)| *other == domain) => return Err(DomainsProblem::Repeated(field)),
            Ok(domain) => wanted.push((domain, vouched)),
        }
    }
    Ok(Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(domain: &str, state: DomainDataState) -> DomainData {
        DomainData { domain: domain.to_owned(), state }
    }

    #[test]
    fn only_the_word_verified_vouches_for_a_domain() {
        use DomainDataState::*;
        let named = |wanted: Option<Vec<(DomainName, bool)>>| {
            wanted.map(|all| all.into_iter().map(|(name, vouched)| (name.as_str().to_owned(), vouched)).collect::<Vec<_>>())
        };
        assert_eq!(decide_domains(None, None), Ok(None));
        assert_eq!(decide_domains(Some(vec![]), None), Ok(Some(vec![])));
        let old = decide_domains(Some(vec!["Acme.com".to_owned()]), None).unwrap();
        assert_eq!(named(old), Some(vec![("acme.com".to_owned(), false)]));
        let both = decide_domains(Some(vec!["other.com".to_owned()]), Some(vec![data("a.com", Verified), data("b.com", Pending)])).unwrap();
        assert_eq!(named(both), Some(vec![("a.com".to_owned(), true), ("b.com".to_owned(), false)]));
    }

    #[test]
    fn a_bad_domain_is_named_by_its_place() {
        use DomainDataState::*;
        for (given, problem) in [
            (vec![data("a.com", Verified), data("co.uk", Verified)], DomainProblem::PublicSuffix),
            (vec![data("a.com", Verified), data("nonsense!", Pending)], DomainProblem::Malformed),
            (vec![data("a.com", Verified), data("gmail.com", Verified)], DomainProblem::Consumer),
        ] {
            assert_eq!(decide_domains(None, Some(given)), Err(DomainsProblem::Name("domain_data[1].domain".to_owned(), problem)));
        }
        let twice = vec!["a.com".to_owned(), "A.COM".to_owned()];
        assert_eq!(decide_domains(Some(twice), None), Err(DomainsProblem::Repeated("domains[1]".to_owned())));
        let many = (0..101).map(|n| format!("a{n}.com")).collect();
        assert_eq!(decide_domains(Some(many), None), Err(DomainsProblem::TooMany("domains")));
    }
}
