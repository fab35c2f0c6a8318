//! Ledger answers for people: amounts in DN, trust as a number, lists as tables.

use dn_core::Amount;
use serde_json::{Map, Value};

use crate::out::{Align, Table};

/// Keys whose digit strings are amounts in atto. Of the roles those are the smallest collaterals.
const AMOUNTS: [&str; 50] = [
    "abstain",
    "accounts",
    "amount",
    "backed",
    "backing",
    "balance",
    "batches",
    "bond",
    "burned",
    "cap",
    "channels",
    "claimed",
    "collateral",
    "deposit",
    "domains",
    "emitted",
    "escrow",
    "fee",
    "fees",
    "gateway",
    "jobs",
    "max_token_price",
    "model_owner",
    "needed",
    "no",
    "no_with_veto",
    "output_token",
    "paid",
    "per_call",
    "pools",
    "prompt_token",
    "reference_price",
    "refund",
    "registration_fee",
    "returned",
    "reward",
    "self_bond",
    "spendable",
    "spent",
    "stake",
    "supply",
    "taken",
    "total",
    "treasury",
    "unbonding",
    "validator",
    "value",
    "voting_power",
    "worker",
    "yes",
];
/// Keys whose numbers are Q32 fractions of one.
const FRACTIONS: [&str; 4] = ["trust", "before", "after", "value"];

/// Columns of characters beyond which a list is no table any more.
const WIDEST: usize = 160;

/// The text of a value: `key  value` lines, and tables for lists of objects.
pub(crate) fn render(value: &Value) -> String {
    match value {
        Value::Array(items) => render_list(items),
        Value::Object(fields) => render_object(fields),
        other => format!("  {}\n", cell("", other)),
    }
}

fn render_object(fields: &Map<String, Value>) -> String {
    let mut table = Table::new(&[("field", Align::Left), ("value", Align::Left)]);
    let mut lists = String::new();
    let mut plain = Vec::new();
    flatten("", fields, &mut plain);
    for (name, key, value) in plain {
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                lists.push_str(&format!("\n{name}\n{}", render_list(items)));
            }
            value => {
                table.row([name, cell(&key, value)]);
            }
        }
    }
    table.render() + &lists
}

/// All fields, those of nested objects with a dotted name: (name, last part of it, value).
fn flatten<'a>(prefix: &str, fields: &'a Map<String, Value>, out: &mut Vec<(String, String, &'a Value)>) {
    for (key, value) in fields {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) => flatten(&name, inner, out),
            value => out.push((name, key.clone(), value)),
        }
    }
}

/// A table; where that would be too wide, one line for each event or one block for each other item.
fn render_list(items: &[Value]) -> String {
    if items.is_empty() {
        return "  none\n".to_owned();
    }
    let rows: Vec<Vec<(String, String)>> = items.iter().map(row).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let columns: Vec<(&str, Align)> = names.iter().map(|name| (*name, Align::Left)).collect();
    let mut table = Table::new(&columns);
    for row in &rows {
        let find = |name: &&str| row.iter().find(|(key, _)| key == name).map(|(_, text)| text.clone());
        table.row(names.iter().map(|name| find(name).unwrap_or_default()));
    }
    let text = table.render();
    if text.lines().all(|line| line.chars().count() <= WIDEST) {
        return text;
    }
    if items.iter().all(|item| !event_of(item).is_null()) {
        return items.iter().map(render_event).collect();
    }
    items.iter().map(render).collect::<Vec<_>>().join("\n")
}

/// The tagged event in an item of a list of events, or else nothing.
fn event_of(item: &Value) -> &Value {
    let event = if item["event"].is_object() { &item["event"] } else { item };
    if event["event"].is_string() { event } else { &Value::Null }
}

/// Height, name, and fields as `name=value`, in one line.
fn render_event(item: &Value) -> String {
    let event = event_of(item);
    let mut fields = row(event);
    let at = fields.iter().position(|(name, _)| name == "event").map(|at| fields.remove(at).1);
    let height = item["height"].as_u64().map(|height| format!("{height:>6}  ")).unwrap_or_default();
    let fields: Vec<String> =
        fields.iter().map(|(name, text)| format!("{name}={}", text.replace(' ', ""))).collect();
    format!("  {height}{:<16}  {}\n", at.unwrap_or_default(), fields.join("  "))
}

fn row(item: &Value) -> Vec<(String, String)> {
    let Value::Object(fields) = item else { return vec![("value".to_owned(), cell("", item))] };
    let mut flat = Vec::new();
    flatten("", fields, &mut flat);
    flat.into_iter().map(|(name, key, value)| (name, cell(&key, value))).collect()
}

fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "—".to_owned(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => fraction(key, number).unwrap_or_else(|| number.to_string()),
        Value::String(text) => amount(key, text).unwrap_or_else(|| text.clone()),
        Value::Array(items) => items.iter().map(|item| cell("", item)).collect::<Vec<_>>().join(" "),
        Value::Object(_) => value.to_string(),
    }
}

fn amount(key: &str, text: &str) -> Option<String> {
    let money = AMOUNTS.contains(&key) || key.starts_with("to_") || key.starts_with("min_");
    if !money || text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(format!("{} DN", Amount::from_atto(text.parse().ok()?)))
}

fn fraction(key: &str, number: &serde_json::Number) -> Option<String> {
    let bits = number.as_u64().filter(|_| FRACTIONS.contains(&key))?;
    Some(format!("{:.4}", bits as f64 / (1u64 << 32) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collaterals_are_money_and_addresses_stay_addresses() {
        let params = serde_json::json!({ "collateral": { "worker": "100000000000000000000" } });
        assert!(render(&params).contains("collateral.worker  100 DN"), "{}", render(&params));
        let identity = serde_json::json!({ "worker": "0x12" });
        assert!(render(&identity).contains("worker  0x12"), "{}", render(&identity));
    }

    #[test]
    fn votes_limits_and_treasuries_are_money() {
        let tally = serde_json::json!({ "tally": { "yes": "2000000000000000000", "no_with_veto": "0" } });
        assert!(render(&tally).contains("tally.yes           2 DN"), "{}", render(&tally));
        for name in ["treasury", "spendable", "per_call", "spent", "needed", "backed", "self_bond"] {
            let value = serde_json::json!({ name: "3000000000000000000" });
            assert!(render(&value).contains("3 DN"), "{name}: {}", render(&value));
        }
    }

    #[test]
    fn money_and_fractions_are_readable_and_other_digits_untouched() {
        let value = serde_json::json!({
            "balance": "1500000000000000000", "shares": "15", "trust": 1u64 << 31, "height": 7, "bond": "25000000000000000000",
            "price": {"prompt_token": "10"}, "lanes": [{"lane": 0, "claimed": "1000000000000000000"}]
        });
        let text = render(&value);
        for expected in
            ["1.5 DN", "0.5000", "price.prompt_token", "0.00000000000000001 DN", "lanes\n", "1 DN", "25 DN"]
        {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        assert!(text.contains("shares              15\n"), "{text}");
        assert_eq!(render(&serde_json::json!([])), "  none\n");
    }

    #[test]
    fn wide_lists_become_lines_and_blocks() {
        let hash = format!("0x{}", "ab".repeat(32));
        let event = serde_json::json!({"event": "slashed", "amount": "2000000000000000000", "a": hash, "b": hash, "c": hash});
        let events = serde_json::json!([{"height": 7, "index": 0, "event": event}]);
        let text = render(&events);
        assert!(text.starts_with("       7  slashed ") && text.contains("amount=2DN"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        let wide = serde_json::json!([{"a": hash, "b": hash, "c": hash}, {"a": 1}]);
        assert_eq!(render(&wide).lines().count(), 5 + 1 + 3);
    }
}
