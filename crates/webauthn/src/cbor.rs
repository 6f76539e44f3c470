//! As much CBOR as authenticators write (RFC 8949; CTAP 2.1 §8, "message encoding"): integers, strings, arrays, maps, booleans and null,
//! of definite and shortest length, without tags and floats, to a depth of four. Anything else is refused, and so are a key that a map
//! has twice and octets after the end.
//!
//! The order of a map's keys is not asked for: platforms write attestation objects in other orders than CTAP's, and without doubled
//! keys the order says nothing.

use crate::Refusal;

/// Attestation objects have a certificate chain in them at most.
const MAX_LEN: usize = 32 * 1024;
/// CTAP 2.1 §8.
const MAX_DEPTH: usize = 4;
/// Items of one document, all levels together.
const MAX_ITEMS: usize = 256;

/// One item; strings are borrowed from the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Both signs: CBOR's integers reach from -2^64 to 2^64 - 1.
    Integer(i128),
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Bool(bool),
    Null,
}

impl<'a> Value<'a> {
    pub fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Map(members) => Some(members),
            _ => None,
        }
    }
}

/// The one item that `bytes` are.
pub fn read(bytes: &[u8]) -> Result<Value<'_>, Refusal> {
    let (value, rest) = read_first(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(Refusal::Cbor("octets after the end of the CBOR")) }
}

/// The item that `bytes` begin with, and what comes after it.
pub fn read_first(bytes: &[u8]) -> Result<(Value<'_>, &[u8]), Refusal> {
    if bytes.len() > MAX_LEN {
        return Err(Refusal::Cbor("CBOR longer than is read"));
    }
    let mut reader = Reader { rest: bytes, items: 0 };
    let value = reader.item(0)?;
    Ok((value, reader.rest))
}

struct Reader<'a> {
    rest: &'a [u8],
    items: usize,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<Value<'a>, Refusal> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(Refusal::Cbor("CBOR of more items than are read"));
        }
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        match major {
            0 => Ok(Value::Integer(i128::from(self.argument(info)?))),
            1 => Ok(Value::Integer(-1 - i128::from(self.argument(info)?))),
            2 => Ok(Value::Bytes(self.string(info)?)),
            3 => std::str::from_utf8(self.string(info)?).map(Value::Text).map_err(|_| Refusal::Cbor("a CBOR text that is not UTF-8")),
            4 => {
                let count = self.count(info, depth, 1)?;
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.item(depth + 1)?);
                }
                Ok(Value::Array(items))
            }
            5 => {
                let count = self.count(info, depth, 2)?;
                let mut members = Vec::with_capacity(count);
                for _ in 0..count {
                    let key = self.item(depth + 1)?;
                    if !matches!(key, Value::Integer(_) | Value::Text(_)) {
                        return Err(Refusal::Cbor("a CBOR map with a key that is neither integer nor text"));
                    }
                    if members.iter().any(|(known, _)| *known == key) {
                        return Err(Refusal::Cbor("a CBOR map with one key twice"));
                    }
                    members.push((key, self.item(depth + 1)?));
                }
                Ok(Value::Map(members))
            }
            7 => match info {
                20 => Ok(Value::Bool(false)),
                21 => Ok(Value::Bool(true)),
                22 => Ok(Value::Null),
                _ => Err(Refusal::Cbor("a CBOR float or simple value")),
            },
            _ => Err(Refusal::Cbor("a CBOR tag")),
        }
    }

    fn string(&mut self, info: u8) -> Result<&'a [u8], Refusal> {
        let len = self.argument(info)?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// How many items follow. A count that the octets left cannot hold is refused before anything is set aside for it.
    fn count(&mut self, info: u8, depth: usize, items_each: usize) -> Result<usize, Refusal> {
        if depth >= MAX_DEPTH {
            return Err(Refusal::Cbor("CBOR nested deeper than is read"));
        }
        let count = usize::try_from(self.argument(info)?).unwrap_or(usize::MAX);
        if count > MAX_ITEMS || count.saturating_mul(items_each) > self.rest.len() {
            return Err(Refusal::Cbor("CBOR of more items than are read"));
        }
        Ok(count)
    }

    /// The argument of an item's head, in its shortest form.
    fn argument(&mut self, info: u8) -> Result<u64, Refusal> {
        let (len, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(Refusal::Cbor("CBOR of indefinite length")),
        };
        let number = self.take(len)?.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        if number < least { Err(Refusal::Cbor("a CBOR number that is not in its shortest form")) } else { Ok(number) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Refusal::Cbor("CBOR that ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn items_of_rfc_8949_appendix_a_are_read() {
        for (hex, value) in [
            ("00", Value::Integer(0)),
            ("17", Value::Integer(23)),
            ("1818", Value::Integer(24)),
            ("1903e8", Value::Integer(1_000)),
            ("1bffffffffffffffff", Value::Integer(18_446_744_073_709_551_615)),
            ("3bffffffffffffffff", Value::Integer(-18_446_744_073_709_551_616)),
            ("3903e7", Value::Integer(-1_000)),
            ("390100", Value::Integer(-257)),
            ("4401020304", Value::Bytes(&[1, 2, 3, 4])),
            ("62c3bc", Value::Text("\u{fc}")),
            ("f4", Value::Bool(false)),
            ("f5", Value::Bool(true)),
            ("f6", Value::Null),
            (
                "8301820203820405",
                Value::Array(vec![
                    Value::Integer(1),
                    Value::Array(vec![Value::Integer(2), Value::Integer(3)]),
                    Value::Array(vec![Value::Integer(4), Value::Integer(5)]),
                ]),
            ),
            (
                "a26161016162820203",
                Value::Map(vec![
                    (Value::Text("a"), Value::Integer(1)),
                    (Value::Text("b"), Value::Array(vec![Value::Integer(2), Value::Integer(3)])),
                ]),
            ),
        ] {
            assert_eq!(read(&octets(hex)), Ok(value), "{hex}");
        }
    }

    #[test]
    fn what_no_authenticator_writes_is_refused() {
        for (hex, why) in [
            ("", "nothing"),
            ("0000", "an octet after the end"),
            ("1800", "not the shortest form"),
            ("1817", "not the shortest form"),
            ("1900ff", "not the shortest form"),
            ("1a0000ffff", "not the shortest form"),
            ("1b00000000ffffffff", "not the shortest form"),
            ("580401020304", "a length not in its shortest form"),
            ("1c", "a reserved head"),
            ("5f42010243030405ff", "indefinite bytes"),
            ("7f657374726561646d696e67ff", "an indefinite text"),
            ("9f01ff", "an indefinite array"),
            ("bf6161 01ff", "an indefinite map"),
            ("ff", "a break"),
            ("c000", "a tag"),
            ("f90000", "a float"),
            ("f7", "undefined"),
            ("f820", "a simple value"),
            ("62c328", "a text that is not UTF-8"),
            ("a2616101616102", "a key twice"),
            ("a201010101", "a key twice"),
            ("a1410101", "bytes as a key"),
            ("a1f501", "a boolean as a key"),
            ("a18001", "an array as a key"),
            ("82", "an array without its items"),
            ("a1", "a map without its members"),
            ("44010203", "bytes that end too early"),
            ("8181818181", "too deep, and cut off"),
            ("818181818100", "too deep"),
            ("9bffffffffffffffff", "an array of 2^64 items"),
            ("bbffffffffffffffff", "a map of 2^64 members"),
            ("5bffffffffffffffff", "2^64 octets"),
        ] {
            assert!(matches!(read(&octets(&hex.replace(' ', ""))), Err(Refusal::Cbor(_))), "{hex}: {why}");
        }
        assert!(read(&octets("8181818100")).is_ok(), "four levels are read");
    }

    #[test]
    fn row_41_a_huge_map_is_refused_before_it_is_read() {
        // 257 members, each there; and as many as fit in a document, which is too long by then.
        let mut members = octets("b90101");
        for key in 0u16..257 {
            members.extend([0x19, (key >> 8) as u8 | 1, key as u8, 0x00]);
        }
        assert_eq!(read(&members), Err(Refusal::Cbor("CBOR of more items than are read")));
        let mut long = octets("5a00010000");
        long.resize(5 + 65_536, 0);
        assert_eq!(read(&long), Err(Refusal::Cbor("CBOR longer than is read")));
        // Many small maps in one another's company count together.
        let mut wide = octets("98c8");
        for _ in 0..200 {
            wide.extend(octets("a10000"));
        }
        assert_eq!(read(&wide), Err(Refusal::Cbor("CBOR of more items than are read")));
    }

    #[test]
    fn what_follows_the_first_item_is_given_back() {
        assert_eq!(read_first(&octets("4101a0")), Ok((Value::Bytes(&[1]), &[0xa0][..])));
    }
}
