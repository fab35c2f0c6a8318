//! Bad input: each gets its status code and its reason, and nothing is charged.

use std::time::Duration;

use dn_core::Amount;
use serde_json::{Value, json};

use crate::executors::Slow;
use crate::net::{MODEL, Net, WORKER};

async fn refused(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let error = body["error"].clone();
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{status}: {body}");
    assert!(
        error["type"].is_string() && error.get("param").is_some() && error.get("code").is_some(),
        "{body}"
    );
    (status, error)
}

fn chat(change: Value) -> Value {
    let mut body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 4, "seed": 5 });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_field_is_named() {
    let net = Net::start().await;
    let _worker = net.worker(WORKER).await;
    let cases = [
        (json!({ "model": null }), "model", "missing_required_parameter"),
        (json!({ "model": 5 }), "model", "invalid_type"),
        (json!({ "messages": "hi" }), "messages", "invalid_type"),
        (json!({ "messages": [] }), "messages", "invalid_value"),
        (json!({ "messages": [{ "role": "king", "content": "x" }] }), "messages[0].role", "invalid_value"),
        (json!({ "messages": [{ "role": "user", "content": 5 }] }), "messages[0].content", "invalid_type"),
        (json!({ "messages": [{ "role": "user" }] }), "messages[0].content", "missing_required_parameter"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            "messages[0].content[0].type",
            "unsupported_parameter",
        ),
        (json!({ "temperature": "hot" }), "temperature", "invalid_type"),
        (json!({ "temperature": 2.5 }), "temperature", "invalid_value"),
        (json!({ "top_p": -0.1 }), "top_p", "invalid_value"),
        (json!({ "max_tokens": 0 }), "max_tokens", "invalid_value"),
        (json!({ "max_tokens": 1.5 }), "max_tokens", "invalid_value"),
        (json!({ "max_tokens": 4, "max_completion_tokens": 5 }), "max_tokens", "invalid_value"),
        (json!({ "seed": "x" }), "seed", "invalid_type"),
        (json!({ "stop": 5 }), "stop", "invalid_type"),
        (json!({ "stop": ["a", 1] }), "stop[1]", "invalid_type"),
        (json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop", "invalid_value"),
        (json!({ "stream": "yes" }), "stream", "invalid_type"),
        (json!({ "stream_options": { "include_usage": true } }), "stream_options", "invalid_value"),
        (json!({ "n": 2 }), "n", "unsupported_parameter"),
        (json!({ "tools": [{ "type": "function" }] }), "tools", "unsupported_parameter"),
        (json!({ "top_logprobs": 3 }), "top_logprobs", "invalid_value"),
        (json!({ "presence_penalty": 2.5 }), "presence_penalty", "invalid_value"),
        (json!({ "response_format": { "type": "xml" } }), "response_format.type", "invalid_value"),
    ];
    for (change, param, code) in cases {
        let (status, error) = refused(net.post("/v1/chat/completions", &chat(change.clone()))).await;
        let found =
            (status, error["param"].as_str().unwrap_or_default(), error["code"].as_str().unwrap_or_default());
        assert_eq!(found, (400, param, code), "{change}: {error}");
    }
    let harmless = json!({ "user": "me", "metadata": {}, "store": false, "n": 1, "tools": [], "logprobs": false,
        "presence_penalty": 0, "response_format": { "type": "text" }, "some_new_field": { "x": 1 } });
    let ok = net.post("/v1/chat/completions", &chat(harmless)).send().await.unwrap();
    assert_eq!(ok.status(), 200, "{}", ok.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_status_and_costs_nothing() {
    let mut net = Net::start().await;
    let body = chat(json!({}));
    let send = |text: String| {
        let request = net.http.post(format!("{}/v1/chat/completions", net.url()));
        refused(request.bearer_auth(&net.api_key).header("content-type", "application/json").body(text))
    };
    let response = net.post("/v1/chat/completions", &body).send().await.unwrap();
    assert_eq!(response.status(), 503, "no worker yet");
    assert!(response.headers().contains_key("retry-after"));
    let ready = net.get("/readyz").send().await.unwrap();
    assert_eq!(ready.status(), 503);

    let _worker = net.worker(WORKER).await;
    assert_eq!(net.get("/readyz").send().await.unwrap().status(), 200);
    let status = |(status, error): (u16, Value)| (status, error["code"].as_str().unwrap().to_owned());
    let expect =
        |found: (u16, Value), code: u16, name: &str| assert_eq!(status(found), (code, name.to_owned()));
    expect(send("{\"model\": ".into()).await, 400, "invalid_json");
    expect(send("[".repeat(100_000)).await, 400, "invalid_json");
    expect(send("[]".into()).await, 400, "invalid_type");
    let unknown = chat(json!({ "model": "gpt-17" }));
    expect(refused(net.post("/v1/chat/completions", &unknown)).await, 404, "model_not_found");
    let long = chat(json!({ "messages": [{ "role": "user", "content": "word ".repeat(20_000) }] }));
    let (code, error) = refused(net.post("/v1/chat/completions", &long)).await;
    assert_eq!((code, error["code"].as_str()), (400, Some("context_length_exceeded")));
    assert_eq!(error["param"], "messages");
    expect(send(format!("{{\"x\": \"{}\"}}", "a".repeat(2_000_000))).await, 413, "body_too_large");
    let url = format!("{}/v1/chat/completions", net.url());
    expect(refused(net.http.post(&url).json(&body)).await, 401, "invalid_api_key");
    expect(refused(net.http.post(&url).bearer_auth("dn-wrong").json(&body)).await, 401, "invalid_api_key");
    // The list of models is public, but a wrong key is told so there too.
    assert!(net.get("/v1/models").send().await.unwrap().status().is_success());
    expect(refused(net.get("/v1/models").bearer_auth("dn-wrong")).await, 401, "invalid_api_key");
    expect(refused(net.get("/v1/nothing")).await, 404, "unknown_url");
    expect(refused(net.get("/v1/chat/completions")).await, 405, "method_not_allowed");
    expect(refused(net.get("/v1/receipts/0x12")).await, 404, "not_found");
    expect(refused(net.get(&format!("/v1/openings/0x{}/0", "00".repeat(32)))).await, 401, "invalid_auditor");
    expect(
        refused(net.post("/v1/chat/completions", &body).header("idempotency-key", "a b")).await,
        400,
        "invalid_header",
    );
    assert_eq!(net.charged(), Amount::ZERO);

    let metrics = net.get("/metrics").send().await.unwrap().text().await.unwrap();
    for name in ["dn_gateway_requests_total", "dn_gateway_time_to_first_token_seconds", "dn_gateway_held_dn"]
    {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    net.gateway.take().unwrap().shutdown().await;
    net.start_gateway(|config| {
        config.limits.header_timeout = Duration::from_millis(200);
        config.limits.body_timeout = Duration::from_millis(200);
    })
    .await;
    let slow = slow_request(&net, "GET /healthz HTTP/1.1\r\nhost: x\r\n").await;
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408"), "{slow}");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 9\r\n\r\n{{",
        net.api_key
    );
    let slow = slow_request(&net, &head).await;
    assert!(slow.starts_with("HTTP/1.1 408") && slow.contains("body_timeout"), "{slow}");
}

/// Sends bytes, then nothing more; what comes back until the gateway closes.
async fn slow_request(net: &Net, bytes: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(net.listen).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = [0; 2000];
    let reading = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer));
    let read = reading.await.expect("an answer or the end within 5 s").unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_channel_is_402_with_its_balance() {
    let deposit = Amount::from_atto(10u128.pow(16));
    let net = Net::with_deposit(deposit).await;
    let _worker = net.worker(WORKER).await;
    let (status, error) =
        refused(net.post("/v1/chat/completions", &chat(json!({ "max_tokens": 200 })))).await;
    assert_eq!((status, error["code"].as_str()), (402, Some("insufficient_balance")));
    assert_eq!(error["dn"]["balance"], json!(deposit));
    assert!(error["message"].as_str().unwrap().contains("0.01 DN left"), "{error}");
    assert_eq!(net.post("/v1/chat/completions", &chat(json!({}))).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_network_is_503_and_recovers() {
    let net = Net::start().await;
    let _worker = net.worker_with(WORKER, std::sync::Arc::new(Slow(Duration::from_millis(30)))).await;
    let body = chat(json!({ "max_tokens": 20 }));
    let calls = (0..3).map(|_| net.post("/v1/chat/completions", &body).send());
    let answers = futures_util::future::join_all(calls).await;
    let mut codes: Vec<u16> =
        answers.iter().map(|answer| answer.as_ref().unwrap().status().as_u16()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [200, 200, 503], "two slots, three calls");
    assert_eq!(net.post("/v1/chat/completions", &chat(json!({}))).send().await.unwrap().status(), 200);
}
