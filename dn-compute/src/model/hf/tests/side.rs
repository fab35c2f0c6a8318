//! The files beside the weights: what is there has to be usable.

use super::*;

const TOKENIZER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/train-tiny/tokenizer.json");

#[test]
fn a_side_file_is_a_file_or_not_there() {
    let config = with(config("llama"), json!({"vocab_size": 4096}));
    let tensors = weights(&config, 1);
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"] {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &config, &tensors, TensorType::F16);
        // The template is not looked at without a tokenizer.
        if name == "chat_template.jinja" {
            std::fs::copy(TOKENIZER, directory.path().join("tokenizer.json")).unwrap();
        }
        let load = || Model::load(directory.path());
        assert!(load().is_ok(), "{name}");
        let path = directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(load(), Err(ModelError::NotAFile { path }) if path.ends_with(name)), "{name}");
        std::fs::remove_dir(&path).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", &path).unwrap();
            assert!(matches!(load(), Err(ModelError::Read { path, .. }) if path.ends_with(name)), "{name}");
        }
    }
}

#[test]
fn a_chat_template_is_a_text_or_a_list_of_named_ones() {
    let config = with(config("llama"), json!({"vocab_size": 4096}));
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &config, &weights(&config, 1), TensorType::F16);
    std::fs::copy(TOKENIZER, directory.path().join("tokenizer.json")).unwrap();
    let load = |template: Value| {
        let settings = json!({ "chat_template": template }).to_string();
        std::fs::write(directory.path().join("tokenizer_config.json"), settings).unwrap();
        Model::load(directory.path()).map(|model| model.front().chat_template().is_some())
    };
    assert!(!load(Value::Null).unwrap());
    assert!(load(json!("x")).unwrap());
    assert!(load(json!([{"name": "default", "template": "x"}, {"name": "tools", "template": "y"}])).unwrap());
    assert!(!load(json!([{"name": "tools", "template": "y"}])).unwrap());
    for wrong in [json!(7), json!(true), json!({"default": "x"}), json!(["x"]), json!([{"name": "default"}])]
    {
        let error = load(wrong.clone()).unwrap_err();
        assert!(
            matches!(&error, ModelError::Parameter { key, .. } if key == "chat_template"),
            "{wrong}: {error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_before_it_is_opened() {
    // A socket: opening a pipe would hang where this fails.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(Model::load(&path), Err(ModelError::NotAFile { .. })));
    assert!(matches!(Model::load("/dev/zero".as_ref()), Err(ModelError::NotAFile { .. })));
}
