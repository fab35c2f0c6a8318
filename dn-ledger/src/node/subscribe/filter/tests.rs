use std::collections::BTreeSet;

use dn_core::hexadecimal::to_hex;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::*;
use crate::state::{
    ACCOUNTS, BACKING_POOLS, BACKING_RELEASES, CHANNELS, IDENTITIES, STAKE_POOLS, UNBONDING_POOLS,
};
use crate::supply::HoldingChange;

/// Makes one value of each form that a schema allows; no two addresses or ids are equal.
struct Samples {
    definitions: Map<String, Value>,
    made: u8,
    addresses: Vec<Value>,
    models: Vec<Value>,
    roles: Vec<Value>,
}

impl Samples {
    /// `n` bytes that no other has.
    fn bytes(&mut self, n: usize) -> Value {
        self.made += 1;
        to_hex(&vec![self.made; n]).into()
    }

    fn named(&mut self, name: &str) -> Value {
        match name {
            "Address" => {
                let made = self.bytes(20);
                self.addresses.push(made.clone());
                made
            }
            "ModelId" => {
                let made = self.bytes(32);
                self.models.push(made.clone());
                made
            }
            "Role" => {
                self.roles.push(json!("gateway"));
                json!("gateway")
            }
            "Hash32" | "BatchId" | "ChannelId" => self.bytes(32),
            "Amount" | "Shares" => json!("7"),
            other => {
                let schema = self.definitions[other].clone();
                self.of(&schema)
            }
        }
    }

    fn of(&mut self, schema: &Value) -> Value {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return self.named(name);
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        // The first form: of what may be missing, the one that is there.
        if let Some(first) = ["oneOf", "anyOf", "allOf"].iter().find_map(|of| schema[of].get(0)) {
            return self.of(&first.clone());
        }
        if let Some(first) = schema["enum"].get(0) {
            return first.clone();
        }
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
        match kind {
            Some("object") => {
                let fields = schema["properties"].as_object().cloned().unwrap_or_default();
                fields.iter().map(|(name, schema)| (name.clone(), self.of(schema))).collect()
            }
            Some("array") => {
                let items = schema["items"].clone();
                (0..3).map(|_| self.of(&items)).collect()
            }
            Some("integer") => schema.get("minimum").cloned().unwrap_or(json!(1)),
            Some("boolean") => json!(true),
            Some("string") => json!("text"),
            other => panic!("{other:?}: {schema}"),
        }
    }
}

/// An event of each kind, with the addresses, models and roles that its JSON names.
fn every_event() -> Vec<(Event, Samples)> {
    let mut generator = SchemaSettings::draft07().into_generator();
    let _: schemars::Schema = generator.subschema_for::<Event>();
    let definitions = generator.take_definitions(true);
    let forms = definitions["Event"]["oneOf"].as_array().unwrap().clone();
    let sample = |form: &Value| {
        let definitions = definitions.clone();
        let (addresses, models, roles) = (Vec::new(), Vec::new(), Vec::new());
        let mut samples = Samples { definitions, made: 0, addresses, models, roles };
        let value = samples.of(form);
        let event = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{e}: {value}"));
        (event, samples)
    };
    forms.iter().map(sample).collect()
}

fn filter(fields: Value) -> Filter {
    serde_json::from_value(fields).unwrap()
}

/// Whatever part of an event's JSON names an address, a model or a role: who asks for it hears of the event.
#[test]
fn whatever_an_event_names_finds_it() {
    let events = every_event();
    assert!(events.len() > 70, "{}", events.len());
    for (event, names) in &events {
        for address in &names.addresses {
            assert!(filter(json!({ "address": address })).fits(event), "{address} of {event:?}");
        }
        for model in &names.models {
            assert!(filter(json!({ "model": model })).fits(event), "{model} of {event:?}");
        }
        for role in &names.roles {
            assert!(filter(json!({ "role": role })).fits(event), "{role} of {event:?}");
        }
        assert_eq!(event.addresses().len(), names.addresses.len(), "{event:?}");
        assert_eq!(event.models().len(), names.models.len(), "{event:?}");
        let stranger = to_hex(&[0xee; 20]);
        assert!(!filter(json!({ "address": stranger })).fits(event), "{event:?}");
        assert!(!filter(json!({ "model": to_hex(&[0xee; 32]) })).fits(event), "{event:?}");
    }
    let members = events.iter().find(|(event, _)| event.kind() == "quality_opened").unwrap();
    assert_eq!(members.1.addresses.len(), 5, "owner, setter and three members");
}

#[test]
fn the_kinds_are_those_of_the_json() {
    let events = every_event();
    for (event, _) in &events {
        let value = serde_json::to_value(event).unwrap();
        assert_eq!(value["event"], event.kind());
        assert!(filter(json!({ "event": event.kind() })).fits(event));
    }
    let kinds: BTreeSet<_> = events.iter().map(|(event, _)| event.kind()).collect();
    assert_eq!(kinds, Event::KINDS.iter().copied().collect());
    assert_eq!(kinds.len(), Event::KINDS.len(), "each once");
    for kind in Event::KINDS {
        assert_eq!(filter(json!({ "event": kind })).check(), Ok(()));
    }
    let error = filter(json!({ "event": "nonsense" })).check().unwrap_err();
    assert_eq!((error.found.as_str(), error.known), ("nonsense", Event::KINDS));
    assert!(error.to_string().contains("`nonsense`") && error.to_string().contains("quality_opened"));
}

/// Events of one role by nature name none.
#[test]
fn events_of_one_role_by_nature_are_found_by_it() {
    let of = |kind: &str| every_event().into_iter().find(|(event, _)| event.kind() == kind).unwrap().0;
    for (kind, roles) in [
        ("jailed", &["validator"][..]),
        ("staked", &["validator"]),
        ("voted", &["validator"]),
        ("audit_assigned", &["validator"]),
        ("turn_missed", &["validator"]),
        ("quality_judged", &["validator"]),
        ("offered", &["worker"]),
        ("batch_posted", &["worker", "gateway"]),
        ("channel_opened", &["gateway"]),
        ("dispute_opened", &["worker", "validator"]),
        ("version_published", &["model_owner"]),
        ("registered", &["gateway"]),
        ("transferred", &[]),
        ("epoch_closed", &[]),
    ] {
        for role in Role::ALL {
            let fits = filter(json!({ "role": role })).fits(&of(kind));
            assert_eq!(fits, roles.contains(&role.name()), "{role} of {kind}");
        }
    }
}

/// A changed holding is of who holds it, as the key of its record says.
#[test]
fn changed_holdings_are_found_by_their_holders() {
    let (who, model) = (Address([7; 20]), ModelId([8; 32]));
    let event = |key: &[u8]| {
        let (before, after) = (dn_core::Amount::ZERO, dn_core::Amount::from_dn(1));
        Event::from(&HoldingChange { key, before, after })
    };
    let (mine, none) = (vec![who], Vec::new());
    let validator = Some(Role::Validator);
    for (key, addresses, models, role) in [
        (ACCOUNTS.key(&who), &mine, None, None),
        (IDENTITIES.key(&(Role::Gateway, who)), &mine, None, Some(Role::Gateway)),
        (STAKE_POOLS.key(&who), &mine, None, validator),
        (UNBONDING_POOLS.key(&(who, 3)), &mine, None, validator),
        (BACKING_RELEASES.key(&(who, 3, model)), &mine, Some(model), None),
        (BACKING_POOLS.key(&model), &none, Some(model), None),
        (CHANNELS.key(&dn_core::ChannelId([9; 32])), &none, None, None),
    ] {
        let event = event(&key);
        assert_eq!(event.addresses(), *addresses, "{event:?}");
        assert_eq!(event.models(), models.into_iter().collect::<Vec<_>>(), "{event:?}");
        assert_eq!(event.roles(), role.into_iter().collect::<Vec<_>>(), "{event:?}");
        if !addresses.is_empty() {
            assert!(filter(json!({ "address": who })).fits(&event), "{event:?}");
        }
    }
    // Not a key of that table: of nobody.
    let (before, after) = (dn_core::Amount::ZERO, dn_core::Amount::ZERO);
    for key in ["0x07", "no hexadecimal", ""] {
        let event =
            Event::HoldingChanged { table: "accounts".to_owned(), key: key.to_owned(), before, after };
        assert!(event.addresses().is_empty());
    }
}
