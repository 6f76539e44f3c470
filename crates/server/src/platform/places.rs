//! Where networks are, by a table that the operator names: there is none of our own, and nobody is asked over the network.
//!
//! A CSV file with a header. Columns are found by their names, in any order, and others are passed over: `network` (a CIDR block), or
//! `start_ip` and `end_ip`; `country` (also `country_code`, `country_iso_code`; ISO 3166-1 alpha-2); `latitude` and `longitude`, in degrees.

use std::net::IpAddr;

/// What the table says of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    pub country: Option<[u8; 2]>,
    pub coordinates: Option<(f32, f32)>,
}

/// The table, in memory: 28 bytes for a block of IPv4 addresses and 64 for one of IPv6.
#[derive(Debug, Default)]
pub struct Places {
    v4: Vec<Span<u32>>,
    v6: Vec<Span<u128>>,
}

#[derive(Clone, Copy, Debug)]
struct Span<T> {
    first: T,
    last: T,
    place: Place,
}

impl Place {
    pub fn country_code(&self) -> Option<&str> {
        self.country.as_ref().and_then(|code| std::str::from_utf8(code).ok())
    }

    /// Along the surface of a sphere. None unless both places have coordinates.
    pub fn kilometres_to(&self, other: &Self) -> Option<f64> {
        const EARTH_KM: f64 = 6_371.0;
        let radians = |(latitude, longitude): (f32, f32)| (f64::from(latitude).to_radians(), f64::from(longitude).to_radians());
        let ((a, b), (c, d)) = (radians(self.coordinates?), radians(other.coordinates?));
        let haversine = ((c - a) / 2.0).sin().powi(2) + a.cos() * c.cos() * ((d - b) / 2.0).sin().powi(2);
        Some(2.0 * EARTH_KM * haversine.sqrt().min(1.0).asin())
    }
}

impl Places {
    /// Reads the table. The error names the line and what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, header) = lines.next().ok_or("it is empty")?;
        let columns = Columns::of(header)?;
        let mut places = Self::default();
        for (at, line) in lines {
            columns.add(line, &mut places).map_err(|problem| format!("line {}: {problem}", at + 1))?;
        }
        sort(&mut places.v4)?;
        sort(&mut places.v6)?;
        Ok(places)
    }

    pub fn find(&self, ip: IpAddr) -> Option<Place> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => find_in(&self.v4, u32::from(ip)),
            IpAddr::V6(ip) => find_in(&self.v6, u128::from(ip)),
        }
    }
}

fn find_in<T: Copy + Ord>(spans: &[Span<T>], address: T) -> Option<Place> {
    let after = spans.partition_point(|span| span.first <= address);
    spans[..after].last().filter(|span| address <= span.last).map(|span| span.place)
}

fn sort<T: Copy + Ord>(spans: &mut [Span<T>]) -> Result<(), String> {
    spans.sort_unstable_by_key(|span| span.first);
    if spans.windows(2).any(|pair| pair[1].first <= pair[0].last) {
        return Err("two networks overlap: which of them is right cannot be told".to_owned());
    }
    Ok(())
}

/// Where the header says that each column is.
struct Columns {
    network: Network,
    country: Option<usize>,
    coordinates: Option<(usize, usize)>,
}

enum Network {
    Block(usize),
    Range(usize, usize),
}

impl Columns {
    fn of(header: &str) -> Result<Self, String> {
        let names: Vec<String> = fields(header.trim_start_matches('\u{feff}')).into_iter().map(|name| name.to_lowercase()).collect();
        let find = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
        let network = match (find(&["network"]), find(&["start_ip"]), find(&["end_ip"])) {
            (Some(network), ..) => Network::Block(network),
            (None, Some(first), Some(last)) => Network::Range(first, last),
            _ => return Err("its first line names neither network nor start_ip and end_ip".to_owned()),
        };
        let country = find(&["country", "country_code", "country_iso_code"]);
        let coordinates = find(&["latitude"]).zip(find(&["longitude"]));
        if country.is_none() && coordinates.is_none() {
            return Err("its first line names neither country nor latitude and longitude".to_owned());
        }
        Ok(Self { network, country, coordinates })
    }

    fn add(&self, line: &str, places: &mut Places) -> Result<(), String> {
        let fields = fields(line);
        let field = |at: usize| fields.get(at).map(|text| text.trim()).unwrap_or_default();
        let country = self.country.map(field).filter(|code| !code.is_empty()).map(country).transpose()?;
        let coordinates = match self.coordinates {
            Some((latitude, longitude)) => coordinates(field(latitude), field(longitude))?,
            None => None,
        };
        let place = Place { country, coordinates };
        let address = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no address"));
        let (first, last) = match self.network {
            Network::Range(first, last) => (address(field(first))?, address(field(last))?),
            Network::Block(at) => ends(field(at)).ok_or_else(|| format!("{:?} is no block of addresses", field(at)))?,
        };
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                places.v4.push(Span { first: first.into(), last: last.into(), place });
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                places.v6.push(Span { first: first.into(), last: last.into(), place });
            }
            _ => return Err("the network ends before it begins".to_owned()),
        }
        Ok(())
    }
}

fn country(text: &str) -> Result<[u8; 2], String> {
    let code: Option<[u8; 2]> = text.as_bytes().try_into().ok().filter(|code: &[u8; 2]| code.iter().all(u8::is_ascii_alphabetic));
    code.map(|code| code.map(|letter| letter.to_ascii_uppercase())).ok_or_else(|| format!("{text:?} is no country of two letters"))
}

fn coordinates(latitude: &str, longitude: &str) -> Result<Option<(f32, f32)>, String> {
    if latitude.is_empty() || longitude.is_empty() {
        return Ok(None);
    }
    let degrees = |text: &str, most: f32| {
        text.parse::<f32>().ok().filter(|degrees| degrees.abs() <= most).ok_or_else(|| format!("{text:?} is no number of degrees"))
    };
    Ok(Some((degrees(latitude, 90.0)?, degrees(longitude, 180.0)?)))
}

/// First and last address of a CIDR block.
fn ends(text: &str) -> Option<(IpAddr, IpAddr)> {
    let (ip, bits) = super::config::parse_block(text)?;
    Some(match ip {
        IpAddr::V4(ip) => {
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            (IpAddr::V4((u32::from(ip) & !host).into()), IpAddr::V4((u32::from(ip) | host).into()))
        }
        IpAddr::V6(ip) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            (IpAddr::V6((u128::from(ip) & !host).into()), IpAddr::V6((u128::from(ip) | host).into()))
        }
    })
}

/// The fields of one line; a field in quotes may hold commas, and a doubled quote is one.
fn fields(line: &str) -> Vec<String> {
    let (mut found, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => found.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    found.push(field);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(places: &Places, ip: &str) -> Option<Place> {
        places.find(ip.parse().unwrap())
    }

    #[test]
    fn a_table_is_read_by_its_header_and_asked_by_address() {
        let blocks = "network,geoname_id,country_iso_code,city,latitude,longitude\n\
            192.0.2.0/24,1,de,\"Berlin, \"\"Mitte\"\"\",52.5,13.4\n\n\
            198.51.100.7,2,AU,Sydney,-33.9,151.2\n2001:db8::/32,3,FR,,,\n";
        let places = Places::read(blocks).unwrap();
        let berlin = find(&places, "192.0.2.255").unwrap();
        assert_eq!((berlin.country_code(), berlin.coordinates), (Some("DE"), Some((52.5, 13.4))));
        assert_eq!(find(&places, "::ffff:192.0.2.0"), Some(berlin));
        let sydney = find(&places, "198.51.100.7").unwrap();
        assert!((berlin.kilometres_to(&sydney).unwrap() - 16_090.0).abs() < 100.0, "{:?}", berlin.kilometres_to(&sydney));
        let france = find(&places, "2001:db8:ffff::1").unwrap();
        assert_eq!((france.country_code(), berlin.kilometres_to(&france)), (Some("FR"), None));
        for ip in ["192.0.1.255", "192.0.3.0", "198.51.100.8", "2001:db9::"] {
            assert_eq!(find(&places, ip), None, "{ip}");
        }
        let ranges = Places::read("start_ip,end_ip,country\n192.0.2.9,192.0.2.20,DE\n").unwrap();
        assert_eq!((find(&ranges, "192.0.2.8"), find(&ranges, "192.0.2.20").is_some()), (None, true));
    }

    #[test]
    fn a_table_that_cannot_be_read_says_where_and_why() {
        for (text, problem) in [
            ("", "it is empty"),
            ("a,b\n", "its first line names neither network"),
            ("network\n", "its first line names neither country"),
            ("network,country\n192.0.2.0/24,DEU\n", "line 2: \"DEU\" is no country"),
            ("network,country\n192.0.2.0/99,DE\n", "line 2: \"192.0.2.0/99\" is no block"),
            ("network,latitude,longitude\n192.0.2.0/24,91,0\n", "line 2: \"91\" is no number of degrees"),
            ("network,latitude,longitude\n192.0.2.0/24,NaN,0\n", "line 2: \"NaN\" is no number of degrees"),
            ("start_ip,end_ip,country\n192.0.2.9,192.0.2.1,DE\n", "line 2: the network ends before it begins"),
            ("start_ip,end_ip,country\n192.0.2.9,::1,DE\n", "line 2: the network ends before it begins"),
            ("network,country\n192.0.2.0/24,DE\n192.0.2.9,AT\n", "two networks overlap"),
        ] {
            let refused = Places::read(text).unwrap_err();
            assert!(refused.starts_with(problem), "{text:?}: {refused}");
        }
    }
}
