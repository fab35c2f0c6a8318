//! Typed data as wallets read it. Names and types of the fields come from the type's text, values from its fields.

use serde_json::{Map, Value, json};

use super::{DOMAIN_TYPE, Domain, Fields, TypedData};

pub(super) fn typed_data<T: TypedData>(domain: &Domain<'_>, value: &T) -> Value {
    let types: Map<String, Value> = [DOMAIN_TYPE, T::TYPE]
        .into_iter()
        .flat_map(structs)
        .map(|(name, fields)| {
            let fields = fields.map(|(kind, name)| json!({ "name": name, "type": kind })).collect();
            (name.to_owned(), fields)
        })
        .collect();
    json!({
        "types": types,
        "primaryType": primary::<T>().0,
        "domain": { "name": domain.name, "version": domain.version, "chainId": domain.chain_id.to_string() },
        "message": message(value),
    })
}

/// A struct's values by name.
pub(super) fn message<T: TypedData>(value: &T) -> Value {
    let mut fields = Fields { words: Vec::new(), shown: Some(Vec::new()) };
    value.fields(&mut fields);
    let names = primary::<T>().1.map(|(_, name)| name.to_owned());
    names.zip(fields.shown.unwrap_or_default()).collect::<Map<_, _>>().into()
}

/// The struct that the type's text begins with.
fn primary<T: TypedData>() -> (&'static str, impl Iterator<Item = (&'static str, &'static str)>) {
    structs(T::TYPE).next().expect("a type's text begins with a struct")
}

/// Splits `A(t x,u y)B(v z)` into structs and each into (type, name).
fn structs(text: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, &str)>)> {
    text.split_terminator(')').filter_map(|part| {
        let (name, fields) = part.split_once('(')?;
        Some((name, fields.split(',').filter_map(|field| field.split_once(' '))))
    })
}
