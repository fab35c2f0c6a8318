use serde_json::json;

use super::*;

fn base(kind: &str) -> Value {
    json!({
        "model_type": kind, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256,
        "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5,
    })
}

fn with(kind: &str, key: &str, value: Value) -> Result<Hyperparameters, ModelError> {
    let mut config = base(kind);
    config[key] = value;
    read(&config).map(|(_, h)| h)
}

#[test]
fn families_have_their_defaults() {
    let (arch, h) = read(&base("llama")).unwrap();
    assert_eq!((arch.as_str(), h.head_size, h.rope_pairing), ("llama", 64, RopePairing::Interleaved));
    assert_eq!((h.attention_bias, h.output_bias, h.head_norms, h.window), (false, false, false, None));
    assert_eq!(f32::from_bits(h.rope_theta_bits), 10_000.0);
    let (arch, h) = read(&base("mistral")).unwrap();
    assert_eq!((arch.as_str(), h.window), ("llama", None));
    let (arch, h) = read(&base("qwen2")).unwrap();
    assert_eq!((arch.as_str(), h.attention_bias, h.output_bias), ("qwen2", true, false));
    assert_eq!(h.rope_pairing, RopePairing::HalfSplit);
    let (arch, h) = read(&base("qwen3")).unwrap();
    assert_eq!((arch.as_str(), h.head_size, h.head_norms, h.attention_bias), ("qwen3", 128, true, false));
    let h = with("llama", "attention_bias", json!(true)).unwrap();
    assert!(h.attention_bias && h.output_bias);
    assert_eq!(with("qwen3", "head_dim", json!(64)).unwrap().head_size, 64);
    let h = with("llama", "rope_parameters", json!({"rope_theta": 5e5, "rope_type": "default"})).unwrap();
    assert_eq!((f32::from_bits(h.rope_theta_bits), h.rope_scaling), (5e5, RopeScaling::None {}));
}

#[test]
fn scalings_are_read_in_both_spellings() {
    let llama3 = json!({"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                        "original_max_position_embeddings": 8192, "rope_type": "llama3"});
    let expected = RopeScaling::Llama3 {
        factor_bits: 32f32.to_bits(),
        low_bits: 1f32.to_bits(),
        high_bits: 4f32.to_bits(),
        original_context: 8192,
    };
    assert_eq!(with("llama", "rope_scaling", llama3.clone()).unwrap().rope_scaling, expected);
    assert_eq!(with("llama", "rope_parameters", llama3).unwrap().rope_scaling, expected);
    let yarn = |changes: Value| {
        let mut yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768});
        yarn.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        with("qwen2", "rope_scaling", yarn).map(|h| h.rope_scaling)
    };
    let attention = |scaling| match scaling {
        RopeScaling::Yarn { attention_bits, .. } => f32::from_bits(attention_bits),
        other => panic!("{other:?}"),
    };
    let computed = attention(yarn(json!({})).unwrap());
    assert!((computed - (0.1 * 4f32.ln() + 1.0)).abs() < 1e-6);
    assert_eq!(attention(yarn(json!({"attention_factor": 1.25})).unwrap()), 1.25);
    assert!(
        matches!(yarn(json!({"factor": null})).unwrap(), RopeScaling::Yarn { factor_bits, .. } if factor_bits == 4f32.to_bits())
    );
    assert!(matches!(yarn(json!({"mscale": 1.0})), Err(ModelError::Parameter { .. })));
    assert!(matches!(yarn(json!({"truncate": false})), Err(ModelError::Parameter { .. })));
    assert!(matches!(yarn(json!({"beta_fast": 0.5})), Err(ModelError::Rope(_))));
    for kind in ["dynamic", "longrope", "su"] {
        let error = with("llama", "rope_scaling", json!({"type": kind, "factor": 2.0})).unwrap_err();
        assert!(error.to_string().contains(kind) && error.to_string().contains("yarn"), "{error}");
    }
}

#[test]
fn windows_are_of_all_layers_or_none() {
    let window = |kind: &str, changes: Value| {
        let mut config = base(kind);
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        read(&config).map(|(_, h)| h.window)
    };
    assert_eq!(window("mistral", json!({"sliding_window": 4096})).unwrap(), Some(4096));
    assert_eq!(window("mistral", json!({"sliding_window": null})).unwrap(), None);
    assert_eq!(window("mistral", json!({"sliding_window": 131_072})).unwrap(), None);
    assert_eq!(window("llama", json!({"sliding_window": 4096})).unwrap(), None);
    assert_eq!(window("qwen2", json!({"sliding_window": 4096, "use_sliding_window": false})).unwrap(), None);
    let qwen =
        |below: u32| json!({"sliding_window": 4096, "use_sliding_window": true, "max_window_layers": below});
    assert_eq!(window("qwen2", qwen(16)).unwrap(), None);
    assert_eq!(window("qwen2", qwen(0)).unwrap(), Some(4096));
    assert!(
        matches!(window("qwen2", qwen(8)), Err(ModelError::Feature { key, .. }) if key == "max_window_layers")
    );
    let layers = |kinds: [&str; 2]| json!({"sliding_window": 4096, "layer_types": kinds});
    assert_eq!(window("qwen3", layers(["sliding_attention"; 2])).unwrap(), Some(4096));
    assert_eq!(window("qwen3", layers(["full_attention"; 2])).unwrap(), None);
    let mixed = window("qwen3", layers(["full_attention", "sliding_attention"]));
    assert!(matches!(mixed, Err(ModelError::Feature { key, .. }) if key == "layer_types"));
    assert!(window("qwen3", layers(["linear_attention"; 2])).is_err());
}

#[test]
fn what_is_not_computed_here_is_refused_by_name() {
    let error = with("gemma2", "head_dim", json!(64)).unwrap_err();
    assert!(error.to_string().contains("gemma2") && error.to_string().contains("qwen3"), "{error}");
    assert!(matches!(read(&json!({})), Err(ModelError::Architecture { .. })));
    assert!(matches!(read(&json!([1])), Err(ModelError::Architecture { .. })));
    for (key, value) in [
        ("quantization_config", json!({"quant_method": "gptq"})),
        ("num_local_experts", json!(8)),
        ("logits_scaling", json!(8.0)),
        ("final_logit_softcapping", json!(30.0)),
        ("mlp_bias", json!(true)),
        ("partial_rotary_factor", json!(0.5)),
    ] {
        let error = with("llama", key, value).unwrap_err();
        assert!(matches!(&error, ModelError::Feature { key: found, .. } if found == key), "{key}: {error}");
    }
    // What is neutral of one key is not of another.
    for (key, neutral, other) in [
        ("final_logit_softcapping", 0.0, 1.0),
        ("attn_logit_softcapping", 0.0, 1.0),
        ("logits_scaling", 1.0, 0.0),
        ("residual_multiplier", 1.0, 0.0),
        ("embedding_multiplier", 1.0, 0.0),
        // Heads of 64.
        ("attention_multiplier", 0.125, 1.0),
        ("attention_multiplier", 0.125, 0.0),
        ("partial_rotary_factor", 1.0, 0.0),
    ] {
        assert_eq!(
            with("llama", key, json!(neutral)).unwrap(),
            with("llama", key, Value::Null).unwrap(),
            "{key}"
        );
        for other in [json!(other), json!("x")] {
            let refused = with("llama", key, other);
            assert!(matches!(&refused, Err(ModelError::Feature { key: found, .. }) if found == key), "{key}");
        }
    }
    // Head size by default and not.
    for (kind, scale) in [("qwen3", 1.0 / 128f64.sqrt()), ("qwen2", 0.125)] {
        assert!(with(kind, "attention_multiplier", json!(scale)).is_ok(), "{kind}");
    }
    for place in ["rope_parameters", "rope_scaling"] {
        let partial = |factor: f64| json!({"rope_type": "default", "partial_rotary_factor": factor});
        assert!(with("llama", place, partial(1.0)).is_ok());
        let refused = with("llama", place, partial(0.5));
        assert!(
            matches!(refused, Err(ModelError::Feature { key, .. }) if key == "partial_rotary_factor"),
            "{place}"
        );
        for value in [json!("yarn"), json!([1.0]), json!(1.0)] {
            let refused = with("llama", place, value);
            assert!(matches!(refused, Err(ModelError::Parameter { key, .. }) if key == place));
        }
    }
    for theta in [json!("500000"), json!([5e5]), json!(true)] {
        let refused = with("llama", "rope_parameters", json!({"rope_theta": theta, "rope_type": "default"}));
        assert!(matches!(refused, Err(ModelError::Parameter { key, .. }) if key == "rope_theta"), "{theta}");
    }
    for (key, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1 << 20)),
        ("hidden_size", json!("64")),
        ("hidden_size", json!(null)),
        ("num_key_value_heads", json!(7)),
        ("head_dim", json!(31)),
        ("head_dim", json!(4096)),
        ("num_hidden_layers", json!(100_000)),
        ("rms_norm_eps", json!(0.0)),
        ("rms_norm_eps", json!("x")),
        ("rope_theta", json!(-1.0)),
        ("tie_word_embeddings", json!(1)),
        ("hidden_act", json!("gelu")),
        ("vocab_size", json!(u64::MAX)),
    ] {
        assert!(matches!(with("llama", key, value), Err(ModelError::Parameter { .. })), "{key}");
    }
}
