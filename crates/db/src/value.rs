use std::fmt;

use gatewright_base::{Id, Kind, Timestamp};

use crate::DbError;

/// A parameter or a column: the few types both engines store alike.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The parameters of a statement, `$1` first: `params![user_id, now, None::<String>]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::Value::from($value)),*] };
}

/// A statement that is about to be run: see [`crate::Tx::ahead`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub(crate) sql: &'static str,
    pub(crate) params: Vec<Value>,
}

impl Ask {
    pub fn new(sql: &'static str, params: &[Value]) -> Self {
        Self { sql, params: params.to_vec() }
    }
}

/// One row. Columns are taken in the order of the SELECT list: each call consumes the next one.
pub struct Row {
    columns: std::vec::IntoIter<Value>,
    taken: usize,
}

impl Row {
    pub(crate) fn new(columns: Vec<Value>) -> Self {
        Self { columns: columns.into_iter(), taken: 0 }
    }

    pub fn text(&mut self) -> Result<String, DbError> {
        self.opt_text()?.ok_or(self.decode("text"))
    }

    pub fn opt_text(&mut self) -> Result<Option<String>, DbError> {
        match self.next("text")? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            _ => Err(self.decode("text")),
        }
    }

    pub fn int(&mut self) -> Result<i64, DbError> {
        self.opt_int()?.ok_or(self.decode("an integer"))
    }

    pub fn opt_int(&mut self) -> Result<Option<i64>, DbError> {
        match self.next("an integer")? {
            Value::Int(int) => Ok(Some(int)),
            Value::Null => Ok(None),
            _ => Err(self.decode("an integer")),
        }
    }

    /// A column that holds 0 or 1.
    pub fn bool(&mut self) -> Result<bool, DbError> {
        match self.next("0 or 1")? {
            Value::Int(int @ (0 | 1)) => Ok(int == 1),
            _ => Err(self.decode("0 or 1")),
        }
    }

    pub fn time(&mut self) -> Result<Timestamp, DbError> {
        self.opt_time()?.ok_or(self.decode("a time"))
    }

    pub fn opt_time(&mut self) -> Result<Option<Timestamp>, DbError> {
        match self.next("a time")? {
            Value::Int(millis) => Ok(Some(Timestamp::from_millis(millis))),
            Value::Null => Ok(None),
            _ => Err(self.decode("a time")),
        }
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, DbError> {
        self.opt_bytes()?.ok_or(self.decode("bytes"))
    }

    pub fn opt_bytes(&mut self) -> Result<Option<Vec<u8>>, DbError> {
        match self.next("bytes")? {
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Null => Ok(None),
            _ => Err(self.decode("bytes")),
        }
    }

    pub fn id<K: Kind>(&mut self) -> Result<Id<K>, DbError> {
        self.text().map(Id::from_text)
    }

    pub fn opt_id<K: Kind>(&mut self) -> Result<Option<Id<K>>, DbError> {
        Ok(self.opt_text()?.map(Id::from_text))
    }

    fn next(&mut self, expected: &'static str) -> Result<Value, DbError> {
        self.taken += 1;
        self.columns.next().ok_or(self.decode(expected))
    }

    fn decode(&self, expected: &'static str) -> DbError {
        DbError::Decode { column: self.taken, expected }
    }
}

/// Rows hold hashes, addresses and sealed secrets: only the shape is shown.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.columns.as_slice()).finish()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "Null",
            Self::Int(_) => "Int(..)",
            Self::Text(_) => "Text(..)",
            Self::Bytes(_) => "Bytes(..)",
        })
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        value.as_deref().into()
    }
}
impl From<&Option<Vec<u8>>> for Value {
    fn from(value: &Option<Vec<u8>>) -> Self {
        value.as_deref().into()
    }
}
impl<K> From<&Option<Id<K>>> for Value {
    fn from(value: &Option<Id<K>>) -> Self {
        value.as_ref().into()
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<&&str> for Value {
    fn from(value: &&str) -> Self {
        Self::Text((*value).to_owned())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}
impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<&i64> for Value {
    fn from(value: &i64) -> Self {
        Self::Int(*value)
    }
}
impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}
impl From<&Vec<u8>> for Value {
    fn from(value: &Vec<u8>) -> Self {
        Self::Bytes(value.clone())
    }
}
impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}
impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}
impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.millis())
    }
}
impl From<&Timestamp> for Value {
    fn from(value: &Timestamp) -> Self {
        Self::Int(value.millis())
    }
}
impl<K> From<Id<K>> for Value {
    fn from(value: Id<K>) -> Self {
        Self::Text(value.into_string())
    }
}
impl<K> From<&Id<K>> for Value {
    fn from(value: &Id<K>) -> Self {
        Self::Text(value.as_str().to_owned())
    }
}
impl From<&Value> for Value {
    fn from(value: &Value) -> Self {
        value.clone()
    }
}
