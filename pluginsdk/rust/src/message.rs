//! How the messages of the plan points become JSON and back.

use std::collections::BTreeMap;

use crate::json::{Json, Text, ToJson};

/// A field of a message, or a message.
pub trait Field: ToJson {
    /// Reads a value; one of another type counts as absent.
    fn read(value: Json) -> Self;
    /// Whether the value is the one that stands for an absent field.
    fn is_empty(&self) -> bool;
}

impl Field for String {
    fn read(value: Json) -> String {
        value.text().unwrap_or_default().into_owned()
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Field for bool {
    fn read(value: Json) -> bool {
        value.bool().unwrap_or_default()
    }
    fn is_empty(&self) -> bool {
        !self
    }
}

impl Field for i64 {
    fn read(value: Json) -> i64 {
        value.int().unwrap_or_default()
    }
    fn is_empty(&self) -> bool {
        *self == 0
    }
}

impl Field for Text {
    fn read(value: Json) -> Text {
        value.into()
    }
    fn is_empty(&self) -> bool {
        self.json().is_null()
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(value: Json) -> Vec<T> {
        value.items().map(T::read).collect()
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn read(value: Json) -> BTreeMap<String, T> {
        value
            .members()
            .map(|(key, v)| (key.into_owned(), T::read(v)))
            .collect()
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Field> Field for Option<T> {
    fn read(value: Json) -> Option<T> {
        if value.is_null() {
            return None;
        }
        Some(T::read(value))
    }
    fn is_empty(&self) -> bool {
        self.is_none()
    }
}

macro_rules! message {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $($(#[$field_doc:meta])* pub $field:ident: $type:ty $(, $omit_empty:ident)?;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $crate::message::Field for $name {
            fn read(value: $crate::json::Json) -> $name {
                $name {
                    $($field: $crate::message::Field::read(value.get(stringify!($field))),)*
                }
            }
            fn is_empty(&self) -> bool {
                false
            }
        }

        impl $crate::json::ToJson for $name {
            fn write(&self, out: &mut String) {
                $crate::json::write_object(out, |o| {
                    $(
                        let omit = false $(| stringify!($omit_empty).is_ascii())?;
                        if !(omit && $crate::message::Field::is_empty(&self.$field)) {
                            o.put(stringify!($field), &self.$field);
                        }
                    )*
                });
            }
        }
    };
}

pub(crate) use message;
