/// A field of a request that cannot be taken: which, and the code for it. Both are wire words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub field: &'static str,
    pub code: &'static str,
}
