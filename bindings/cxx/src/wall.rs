//! Between the library and C++: errors get their text, and no panic crosses.

use std::panic::{AssertUnwindSafe, catch_unwind};

use softdimo::Error;

/// An error with its status name in front.
pub struct Failure(Error);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.status().name().to_string_lossy(), self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

pub type Result<T> = std::result::Result<T, Failure>;

/// Run `body`; a panic becomes an error, since cxx would abort on it.
pub fn wall<T>(body: impl FnOnce() -> softdimo::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Ok(result?),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|s| (*s).to_string());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(Failure(Error::Internal { message: text.unwrap_or_else(|| "panic".into()) }))
        }
    }
}

/// A value whose drop cannot panic into C++.
pub struct Quiet<T>(Option<T>);

impl<T> Quiet<T> {
    pub fn new(value: T) -> Quiet<T> {
        Quiet(Some(value))
    }

    pub fn get(&self) -> softdimo::Result<&T> {
        self.0.as_ref().ok_or_else(|| Error::Internal { message: "used after its end".into() })
    }
}

impl<T> Drop for Quiet<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors() {
        let text = |r: Result<()>| r.unwrap_err().to_string();
        let internal = "SOFTDIMO_ERR_INTERNAL: internal error (please report it): ";
        assert_eq!(text(wall(|| panic!("a bug"))), format!("{internal}a bug"));
        assert_eq!(text(wall(|| panic!("bug {}", 7))), format!("{internal}bug 7"));
        assert_eq!(text(wall(|| std::panic::panic_any(7))), format!("{internal}panic"));
    }

    #[test]
    fn a_panic_in_drop_stays_inside() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        drop(Quiet::new(Bad));
    }
}
