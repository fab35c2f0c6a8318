//! `modules.json`: the steps from a text to its embedding, as sentence-transformers lists them.

use super::EncoderError;
use super::config::parameter;

const EXPECTED: &str =
    "a Transformer in the directory itself, a Pooling in `1_Pooling` and at most a Normalize behind them";

#[derive(serde::Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

/// Refuses steps that are not computed here. Without a `Normalize` embeddings have the length one all the same.
pub(super) fn check(json: &[u8]) -> Result<(), EncoderError> {
    let modules: Vec<Module> =
        serde_json::from_slice(json).map_err(|source| EncoderError::Json { file: "modules.json", source })?;
    let refuse = |found: String| Err(parameter("modules.json", EXPECTED, found));
    for (index, Module { kind, path }) in modules.iter().enumerate() {
        // Older and newer versions keep the same types in other places.
        let name = kind.rsplit('.').next().unwrap_or_default();
        match (index, name, path.as_str()) {
            (0, "Transformer", "") | (1, "Pooling", "1_Pooling") | (2, "Normalize", _) => {}
            _ => {
                let [kind, path] = [kind, path].map(|text| text.chars().take(80).collect::<String>());
                return refuse(format!("a module `{kind}` in `{path}` as number {}", index + 1));
            }
        }
    }
    match modules.len() {
        0 => refuse("an empty list".to_owned()),
        1 => refuse("a Transformer alone".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of types, the part after the last dot, and paths.
    fn check_all(modules: &[(&str, &str)]) -> Result<(), EncoderError> {
        let module = |(index, (kind, path)): (usize, &(&str, &str))| {
            let kind = format!("sentence_transformers.models.{kind}");
            serde_json::json!({"idx": index, "name": index.to_string(), "path": path, "type": kind})
        };
        let list: Vec<_> = modules.iter().enumerate().map(module).collect();
        check(serde_json::Value::from(list).to_string().as_bytes())
    }

    #[test]
    fn modules_that_run_here_are_taken_and_others_named() {
        let (transformer, pooling) = (("Transformer", ""), ("Pooling", "1_Pooling"));
        let normalize = ("Normalize", "2_Normalize");
        check_all(&[transformer, pooling]).unwrap();
        check_all(&[transformer, pooling, normalize]).unwrap();
        for (modules, named) in [
            (
                &[transformer, pooling, ("Dense", "2_Dense"), ("Normalize", "3_Normalize")][..],
                "models.Dense` in `2_Dense`",
            ),
            (&[transformer, pooling, normalize, normalize], "number 4"),
            (&[transformer, normalize], "models.Normalize` in `2_Normalize` as number 2"),
            (&[transformer, ("Pooling", "pool")], "`pool`"),
            (&[("Transformer", "0_Transformer"), pooling], "0_Transformer"),
            (&[("CLIPModel", ""), pooling], "CLIPModel"),
            (&[pooling], "models.Pooling` in `1_Pooling` as number 1"),
            (&[transformer], "alone"),
            (&[], "empty"),
        ] {
            let error = check_all(modules).unwrap_err();
            assert!(matches!(error, EncoderError::Parameter { key: "modules.json", .. }), "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
        for damaged in ["", "{}", "[1]", r#"[{"path":""}]"#] {
            assert!(matches!(
                check(damaged.as_bytes()),
                Err(EncoderError::Json { file: "modules.json", .. })
            ));
        }
        // Another version's place of the same types.
        check(br#"[{"type":"a.b.Transformer","path":""},{"type":"Pooling","path":"1_Pooling"}]"#).unwrap();
    }
}
