//! Somebody outside who keeps the books from nothing but the genesis file and the events, as JSON.

use std::collections::BTreeMap;

use dn_core::Amount;
use dn_core::amount::SUPPLY_CAP;
use dn_ledger::Genesis;
use dn_ledger::events::Event;
use serde_json::Value;

/// What every record holds, by table and key.
pub(crate) struct Auditor {
    holdings: BTreeMap<(String, String), Amount>,
}

impl Auditor {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let mut holdings = BTreeMap::new();
        let mut hold = |table: &str, key: String, amount: Amount| {
            let held: &mut Amount = holdings.entry((table.to_owned(), key)).or_default();
            *held = held.checked_add(amount).unwrap();
        };
        hold("pools", "0x0000000000".into(), genesis.community);
        hold("pools", "0x0100000000".into(), genesis.reserve);
        for account in &genesis.accounts {
            hold("accounts", account.address.to_string(), account.balance);
        }
        for identity in &genesis.identities {
            let address: String = identity.address.0.iter().map(|b| format!("{b:02x}")).collect();
            hold("identities", format!("0x{:02x}{address}", identity.role as u8), identity.collateral);
        }
        for stake in &genesis.stakes {
            hold("stake_pools", stake.validator.to_string(), stake.amount);
        }
        let auditor = Self { holdings };
        assert_eq!(auditor.total(), SUPPLY_CAP);
        auditor
    }

    /// Follows an event, which must start from what is known.
    pub(crate) fn hear(&mut self, event: &Event) {
        let event = serde_json::to_value(event).unwrap();
        if event["event"] != "holding_changed" {
            return;
        }
        let amount = |name: &str| serde_json::from_value::<Amount>(event[name].clone()).unwrap();
        let text = |name: &str| match &event[name] {
            Value::String(text) => text.clone(),
            other => panic!("{name}: {other}"),
        };
        let held = self.holdings.entry((text("table"), text("key"))).or_default();
        assert_eq!(*held, amount("before"), "{event}");
        *held = amount("after");
    }

    pub(crate) fn total(&self) -> Amount {
        Amount::sum(self.holdings.values().copied()).unwrap()
    }

    /// All of a table.
    pub(crate) fn table(&self, table: &str) -> BTreeMap<&str, Amount> {
        let own = self.holdings.iter().filter(|((t, _), amount)| t == table && !amount.is_zero());
        own.map(|((_, key), amount)| (key.as_str(), *amount)).collect()
    }
}
