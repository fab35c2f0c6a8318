//! The tour's report for people.

use dn_core::Amount;
use dn_sdk::devnet::{Cheat, Earning, Report};

use crate::out::{self, Align, Table};

/// Prints all of it.
pub(super) fn report(report: &Report) {
    calls(report);
    earnings(report);
    trust(report);
    audits(report);
    slashes(report);
    supply(report);
    checks(report);
}

fn heading(text: &str) {
    out::line(format_args!("\n{text}\n"));
}

/// Four decimals, cut and never rounded up.
fn dn(amount: Amount) -> String {
    format!("{amount:.4}")
}

fn dn_or_blank(amount: Amount) -> String {
    if amount.is_zero() { String::new() } else { dn(amount) }
}

fn loss_or_blank(amount: Amount) -> String {
    if amount.is_zero() { String::new() } else { format!("-{}", dn(amount)) }
}

fn calls(report: &Report) {
    heading("The calls");
    let columns = [
        ("#", Align::Right),
        ("worker", Align::Left),
        ("tokens in", Align::Right),
        ("out", Align::Right),
        ("fee DN", Align::Right),
        ("ms", Align::Right),
        ("", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for (i, call) in report.calls.iter().enumerate() {
        let forged = match call.forged {
            Some(Cheat::CheaperWeights) => "forged: cheaper weights",
            Some(Cheat::AlteredToken) => "forged: one token altered",
            _ if call.streamed => "streamed",
            _ => "",
        };
        table.row([
            (i + 1).to_string(),
            report.roster.name(call.worker),
            call.prompt_tokens.to_string(),
            call.output_tokens.to_string(),
            dn(call.fee),
            call.latency_ms.to_string(),
            forged.to_owned(),
        ]);
    }
    out::text(table.render());
}

fn earnings(report: &Report) {
    heading("Who earned what (DN)");
    let columns = [
        ("who", Align::Left),
        ("fees", Align::Right),
        ("emission", Align::Right),
        ("for catching", Align::Right),
        ("slashed", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for row in &report.earnings {
        let Earning { who, fees, emission, rewards, slashed, .. } = row;
        if [fees, emission, rewards, slashed].iter().all(|amount| amount.is_zero()) {
            continue;
        }
        let slashed = loss_or_blank(*slashed);
        table.row([who.clone(), dn_or_blank(*fees), dn_or_blank(*emission), dn_or_blank(*rewards), slashed]);
    }
    let total = |of: fn(&Earning) -> Amount| {
        Amount::sum(report.earnings.iter().map(of)).map_or_else(|error| error.to_string(), dn)
    };
    let slashed = format!("-{}", total(|row| row.slashed));
    table.row([
        "sum".into(),
        total(|row| row.fees),
        total(|row| row.emission),
        total(|row| row.rewards),
        slashed,
    ]);
    out::text(table.with_totals().render());
    out::line(
        "  Fees of thrown-out batches are not in it: they went back to the payer. What slashes took was paid for",
    );
    out::line("  catching or burned.");
}

fn trust(report: &Report) {
    heading("Trust, from 0 to 1");
    let columns = [
        ("who", Align::Left),
        ("as", Align::Left),
        ("before", Align::Right),
        ("highest", Align::Right),
        ("after", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for change in &report.trust {
        let [before, highest, after] =
            [change.before, change.highest, change.after].map(|trust| format!("{trust:.6}"));
        table.row([change.who.clone(), change.role.to_string(), before, highest, after]);
    }
    out::text(table.render());
}

fn audits(report: &Report) {
    heading("Audits");
    let audits = &report.audits;
    let mut table = Table::new(&[("", Align::Left), ("", Align::Right), ("", Align::Left)]);
    let mut add = |name: &str, value: String, unit: &str| {
        table.row([name.to_owned(), value, unit.to_owned()]);
    };
    add("receipts on the ledger", audits.receipts.to_string(), "");
    add("audited", audits.audited.to_string(), "");
    add("  passed", audits.passed.to_string(), "");
    add("  fraud", audits.fraud.to_string(), "");
    add("  void with their batch", audits.other.to_string(), "");
    add("replays, disputes included", audits.replays.to_string(), "");
    add("time of the replays", millis(audits.replay_us), "ms");
    add("time to generate the same", millis(audits.generation_us), "ms");
    add("replay over generation", format!("{:.4}", audits.replay_over_generation), "");
    out::text(table.render_body());
}

fn millis(us: u64) -> String {
    format!("{:.1}", us as f64 / 1e3)
}

fn slashes(report: &Report) {
    heading("Slashes and refunds");
    let columns = [
        ("block", Align::Right),
        ("who", Align::Left),
        ("what", Align::Left),
        ("DN", Align::Right),
        ("goes to", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for slash in &report.slashes {
        let reporter = slash
            .reporter
            .map(|address| format!("{} to {}, ", dn(slash.reward), report.roster.name(address)));
        table.row([
            slash.height.to_string(),
            slash.who.clone(),
            format!("slashed: {:?}", slash.cause).to_lowercase(),
            format!("-{}", dn(slash.amount)),
            format!("{}{} burned", reporter.unwrap_or_default(), dn(slash.burned)),
        ]);
    }
    for refund in &report.refunds {
        table.row([
            refund.height.to_string(),
            report.roster.name(refund.worker),
            "batch thrown out".to_owned(),
            dn(refund.fees),
            "back to the payer's channel".to_owned(),
        ]);
    }
    out::text(table.render());
}

fn supply(report: &Report) {
    heading(&format!("The supply at block {} (DN, to the last digit)", report.supply.ledger.height));
    let ledger = &report.supply.ledger;
    let mut table = Table::new(&[("", Align::Left), ("", Align::Right)]);
    let terms = [
        ("accounts", ledger.accounts),
        ("+ collateral", ledger.collateral),
        ("+ stake", ledger.stake),
        ("+ unbonding", ledger.unbonding),
        ("+ channels", ledger.channels),
        ("+ batches in escrow", ledger.batches),
        ("+ pools", ledger.pools),
        ("+ burned", ledger.burned),
        ("= supply", ledger.supply),
    ];
    for (name, amount) in terms {
        table.row([name.to_owned(), format!("{amount:.18}")]);
    }
    out::text(table.with_totals().render_body());
}

fn checks(report: &Report) {
    heading("Checks");
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    for check in &report.checks {
        let mark = if check.ok { "ok" } else { "FAILED" };
        table.row([mark.to_owned(), check.name.to_owned(), check.detail.clone()]);
    }
    out::text(table.render_body());
}
