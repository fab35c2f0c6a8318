//! Opens a channel, lets the gateway spend from it by voucher, and pays for one checked call.
//!
//! `cargo run -p dn-examples --example pay_for_a_call -- LEDGER_URL GATEWAY_URL KEYSTORE_HEX_FILE "question"`

use dn_core::{Amount, SecretKey};
use dn_ledger::tx::{Payload, Role, channel_id};
use dn_sdk::client::{ChannelWallet, ChatRequest, Client, Event};
use dn_sdk::ledger::LedgerClient;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [ledger_url, gateway_url, key_file, question] = args.as_slice() else {
        return Err("usage: pay_for_a_call LEDGER_URL GATEWAY_URL KEY_FILE QUESTION".into());
    };
    // 64 hexadecimal digits; a real program takes the key from a keystore.
    let key = dn_examples::read_key(key_file)?;
    let ledger = LedgerClient::new(ledger_url)?;
    let gateways = ledger.identities(Role::Gateway).await?;
    let gateway =
        gateways.iter().find(|g| g.endpoint.trim_end_matches('/') == gateway_url.trim_end_matches('/'));
    let gateway = gateway.ok_or("the ledger knows no gateway of this URL")?.address;

    let payer: SecretKey = key.clone();
    let nonce = ledger.account(payer.address()).await?.pending_nonce;
    let deposit = Amount::from_dn(1);
    let open = Payload::OpenChannel { payee: gateway, deposit, spender: payer.address() };
    ledger.submit(&payer, open).await?;
    let channel = channel_id(payer.address(), gateway, nonce);

    let chain_id = ledger.chain_id().await?;
    let wallet = ChannelWallet::new(key, chain_id, channel, 0, deposit).of_payer(payer.address());
    let client = Client::with_wallet(gateway_url, wallet)?.with_gateway(gateway);
    let model = client.models().await?.into_iter().next().ok_or("the gateway serves no model")?;
    let mut answer = client.stream(&ChatRequest::ask(&model, question)).await?;
    while let Some(event) = answer.next().await? {
        match event {
            Event::Text(text) => print(&text),
            Event::Done(answer) => {
                let receipt = &answer.receipt.body;
                print(&format!(
                    "\n\n{} DN to {} for receipt {}\n",
                    receipt.fee,
                    receipt.worker,
                    receipt.id()
                ));
            }
        }
    }
    Ok(())
}

fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    // A closed pipe ends the program at the next await anyway.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
