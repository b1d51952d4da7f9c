//! A deserialiser seed that builds any kind of tree of JSON within bounds. What becomes of a field that an object
//! repeats is the tree's decision.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Maximum nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// A JSON value that is neither an array nor an object.
pub enum Scalar {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
}

/// A tree of JSON.
pub trait JsonTree: From<Scalar> + From<Vec<Self>> {
    /// The fields of an object.
    type Fields: Default;

    /// Checks whether an object with these fields may have another one of this name.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_name(fields: &Self::Fields, name: &str) -> Result<(), &'static str>;

    /// Adds a field to an object.
    fn add(fields: &mut Self::Fields, name: String, value: Self);

    /// Returns the object with these fields.
    fn object(fields: Self::Fields) -> Self;
}

/// A seed for a value at some depth of a document.
pub struct TreeSeed<'a, T> {
    depth: usize,
    left: &'a mut usize,
    tree: PhantomData<T>,
}

impl<'a, T> TreeSeed<'a, T> {
    /// Creates a seed for a value at this depth. `left` is the number of values still allowed; it is 0 once there were
    /// too many.
    pub fn at(depth: usize, left: &'a mut usize) -> Self {
        Self { depth, left, tree: PhantomData }
    }

    fn below(&mut self) -> TreeSeed<'_, T> {
        TreeSeed::at(self.depth + 1, self.left)
    }
}

impl<'de, T: JsonTree> DeserializeSeed<'de> for TreeSeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        *self.left = self.left.saturating_sub(1);
        if *self.left == 0 {
            return Err(D::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: JsonTree> Visitor<'de> for TreeSeed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(Scalar::Null.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(Scalar::Bool(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<T, E> {
        Ok(Scalar::Number(value.into()).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        Ok(Scalar::Number(value.into()).into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<T, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Scalar::Number(number).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<T, E> {
        Ok(Scalar::Text(value.to_owned()).into())
    }

    fn visit_string<E>(self, value: String) -> Result<T, E> {
        Ok(Scalar::Text(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<T, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.below())? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<T, A::Error> {
        let mut fields = T::Fields::default();
        while let Some(name) = access.next_key::<String>()? {
            T::check_name(&fields, &name).map_err(A::Error::custom)?;
            let value = access.next_value_seed(self.below())?;
            T::add(&mut fields, name, value);
        }
        Ok(T::object(fields))
    }
}

impl From<Scalar> for serde_json::Value {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Number(number) => Self::Number(number),
            Scalar::Text(text) => Self::String(text),
        }
    }
}
