//! The table of methods: calls are looked up in it, and the OpenRPC document is made of it.

use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    CODE_BUSY, CODE_INTERNAL, CODE_PARAMS, CODE_POOL, CODE_REJECTED, RpcError, account, chain, governance,
    openrpc, parse, registry, show, submit, work,
};
use crate::node::history::CODE_PRUNED;
use crate::node::shared::Shared;

/// What a method that only reads does; its result is written once, here.
pub(super) type Query = dyn Fn(&Shared, Value) -> Result<Box<RawValue>, RpcError> + Send + Sync;

/// What a call does.
pub(super) enum Call {
    /// Reads; may block.
    Query(Box<Query>),
    /// Waits for a transaction's block.
    Send,
}

/// A method of the service.
pub(super) struct Method {
    /// What it is called by.
    pub(super) name: &'static str,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    /// What a call does.
    pub(super) call: Call,
    /// The schema of its parameters: an object.
    pub(super) params: fn(&mut SchemaGenerator) -> Schema,
    /// The schema of its result.
    pub(super) result: fn(&mut SchemaGenerator) -> Schema,
    /// The codes of the errors that it has beside those of every call.
    pub(super) errors: &'static [i64],
    /// How many calls it counts for in a caller's quota, whatever its answer's size.
    pub(super) weight: u32,
}

impl Method {
    /// A method that reads.
    pub(super) fn query<P, R>(
        name: &'static str,
        summary: &'static str,
        read: fn(&Shared, P) -> Result<R, RpcError>,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + 'static,
        R: Serialize + JsonSchema + 'static,
    {
        let call = Call::Query(Box::new(move |shared, params| show(read(shared, parse(params)?)?)));
        let errors = &[CODE_PARAMS, CODE_BUSY, CODE_INTERNAL];
        Self {
            name,
            summary,
            call,
            params: P::json_schema,
            result: SchemaGenerator::subschema_for::<R>,
            errors,
            weight: 1,
        }
    }

    /// The same, counting for several calls: what it reads is much more than what it answers.
    pub(super) fn heavy(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// The same, of a height that may be pruned.
    pub(super) fn past(self) -> Self {
        Self { errors: &[CODE_PARAMS, CODE_PRUNED, CODE_BUSY, CODE_INTERNAL], ..self }
    }

    /// The method that sends a transaction.
    pub(super) fn send<P, R>(name: &'static str, summary: &'static str) -> Self
    where
        P: DeserializeOwned + JsonSchema,
        R: Serialize + JsonSchema,
    {
        let errors = &[CODE_REJECTED, CODE_POOL, CODE_BUSY, CODE_PARAMS, CODE_INTERNAL];
        let result = SchemaGenerator::subschema_for::<R>;
        Self { name, summary, call: Call::Send, params: P::json_schema, result, errors, weight: 1 }
    }
}

static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let mut methods = vec![submit::method(), openrpc::method()];
    methods.extend(chain::methods());
    methods.extend(account::methods());
    methods.extend(registry::methods());
    methods.extend(work::methods());
    methods.extend(governance::methods());
    methods.sort_by_key(|method| method.name);
    methods
});

/// All methods, by name.
pub(super) fn methods() -> &'static [Method] {
    &METHODS
}

/// The method with this name.
pub(super) fn find(name: &str) -> Option<&'static Method> {
    let at = METHODS.binary_search_by_key(&name, |method| method.name).ok()?;
    METHODS.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for pair in methods().windows(2) {
            assert!(pair[0].name < pair[1].name, "{}", pair[1].name);
        }
        assert!(methods().iter().all(|m| find(m.name).is_some_and(|found| std::ptr::eq(found, m))));
        assert!(find("dn_nothing").is_none());
    }
}
