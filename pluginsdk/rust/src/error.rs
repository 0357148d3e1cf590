use std::fmt;

use crate::abi::{self, Errno};

/// Why a hook fails. The text reaches the operator as it is written: it names the field, the value
/// and the way out.
///
/// An error that is a bare [`Errno`] has no text of its own, so that what the host knows stands:
/// return the error of [`render`](crate::render) as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    errno: Errno,
    text: String,
}

/// The result of whatever can fail in a plugin.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of a text, with the number EINVAL.
    pub fn new(text: impl Into<String>) -> Error {
        Error {
            errno: Errno::EINVAL,
            text: text.into(),
        }
    }

    /// Makes an error of a text and a number.
    pub fn with_errno(errno: Errno, text: impl Into<String>) -> Error {
        Error {
            errno,
            text: text.into(),
        }
    }

    /// The number the hook returns.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// Makes an error of a host function that failed.
    #[cold]
    pub(crate) fn host(errno: Errno, what: &str, detail: &str) -> Error {
        let gap = if detail.is_empty() { "" } else { " " };
        Error {
            errno,
            text: [what, gap, detail, ": ", errno.text()].concat(),
        }
    }

    /// Adds what was being done to what went wrong.
    pub(crate) fn within(mut self, what: &str) -> Error {
        if self.text.is_empty() {
            self.text = self.errno.text().into();
        }
        self.text = [what, ": ", &self.text].concat();
        self
    }

    /// Tells the host, and returns the result of the hook.
    pub(crate) fn tell(&self) -> i32 {
        if !self.text.is_empty() {
            abi::error_set(self.text.as_bytes());
        }
        self.errno.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(if self.text.is_empty() {
            self.errno.text()
        } else {
            &self.text
        })
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error {
            errno,
            text: String::new(),
        }
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Error {
        Error::new(text)
    }
}

impl From<String> for Error {
    fn from(text: String) -> Error {
        Error::new(text)
    }
}
