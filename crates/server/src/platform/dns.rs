//! TXT records of the DNS. Tests put their own answers in the place of [`SystemDns`].

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{ResolverBuilder, TokioResolver};

/// The texts of all TXT records of a name, none if it has none; each record's strings are joined.
pub type TxtAnswer<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, DnsError>> + Send + 'a>>;

/// Nobody could say. Worth another try.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DNS gave no answer: {0}")]
pub struct DnsError(pub String);

pub trait TxtLookup: Send + Sync + 'static {
    /// `name` without the final dot. It is looked up as it stands: no search domain is ever appended.
    fn txt<'a>(&'a self, name: &'a str) -> TxtAnswer<'a>;
}

/// Longest wait for one name.
const PATIENCE: Duration = Duration::from_secs(5);
/// More records than a name of good faith has.
const MOST_RECORDS: usize = 200;

/// The name servers of the machine this runs on. Remembers no answer: what is asked for here was published a moment ago.
#[derive(Default)]
pub struct SystemDns(OnceLock<TokioResolver>);

impl std::fmt::Debug for SystemDns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemDns")
    }
}

impl SystemDns {
    /// Made at first use, so that a server without name servers starts all the same.
    fn resolver(&self) -> Result<&TokioResolver, DnsError> {
        if let Some(resolver) = self.0.get() {
            return Ok(resolver);
        }
        let builder = TokioResolver::builder_tokio().map_err(|error| DnsError(error.to_string()))?;
        let resolver = finish(builder)?;
        Ok(self.0.get_or_init(|| resolver))
    }

    async fn lookup(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let found = match self.resolver()?.txt_lookup(format!("{name}.")).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => return Err(DnsError(error.to_string())),
        };
        // The answer section alone: what a server adds beside it was not asked for.
        let records = found.answers().iter().take(MOST_RECORDS);
        Ok(records
            .filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
                _ => None,
            })
            .collect())
    }
}

fn finish(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, DnsError> {
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    builder.build().map_err(|error| DnsError(error.to_string()))
}

impl TxtLookup for SystemDns {
    fn txt<'a>(&'a self, name: &'a str) -> TxtAnswer<'a> {
        Box::pin(
            async move { tokio::time::timeout(PATIENCE, self.lookup(name)).await.map_err(|_| DnsError("it took too long".to_owned()))? },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::rdata::TXT;
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that knows `acme.test`, with the names it was asked for.
    async fn name_server() -> (SystemDns, Arc<Mutex<Vec<String>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        let server = NameServerConfig::new("127.0.0.1".parse().unwrap(), true, vec![connection]);
        let search = vec![Name::from_ascii("corp.test.").unwrap()];
        let config = ResolverConfig::from_parts(None, search, vec![server]);
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1_024];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = question.queries[0].clone();
                let name = query.name().clone();
                heard.lock().unwrap().push(name.to_string().to_lowercase());
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                answer.add_query(query);
                let txt = |texts: &[&str]| {
                    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
                    Record::from_rdata(name.clone(), 300, RData::TXT(TXT::new(texts)))
                };
                match name.to_string().to_lowercase().as_str() {
                    "acme.test." => {
                        answer.add_answer(txt(&["v=spf1 -all"]));
                        answer.add_answer(txt(&["verification_", "token=", "abc"]));
                        answer.add_additional(txt(&["verification_token=smuggled"]));
                    }
                    _ => answer.metadata.response_code = ResponseCode::NXDomain,
                }
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let resolver = finish(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())).unwrap();
        (SystemDns(OnceLock::from(resolver)), asked)
    }

    #[tokio::test]
    async fn only_the_answer_to_the_very_name_counts() {
        let (dns, asked) = name_server().await;
        assert_eq!(dns.txt("acme.test").await, Ok(vec!["v=spf1 -all".to_owned(), "verification_token=abc".to_owned()]));
        assert_eq!(dns.txt("gone.test").await, Ok(vec![]));
        for nonsense in ["a..b", &format!("{}a", "a.".repeat(200)), &"x".repeat(64)] {
            assert!(dns.txt(nonsense).await.is_err(), "{nonsense}");
        }
        // Nothing is remembered, and no search domain is tried.
        assert!(dns.txt("acme.test").await.is_ok());
        let asked = asked.lock().unwrap();
        assert_eq!(asked.iter().filter(|name| *name == "acme.test.").count(), 2);
        assert!(asked.iter().all(|name| !name.contains("corp")), "{asked:?}");
    }
}
