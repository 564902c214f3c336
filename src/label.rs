//! Which class a picture shows.

/// Which condition a picture is generated under.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Label {
    /// A class name of the model or one of its synonyms, e.g. `red apple`; case, spaces, hyphens, underscores and an
    /// English plural do not matter.
    Name(String),
    /// A class id; the number of classes is the null class (no condition).
    Class(u32),
}
