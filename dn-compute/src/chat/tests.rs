use proptest::prelude::*;

use super::*;
use crate::formats::gguf::{Array, Gguf, GgufWriter, Value, ValueType};

/// A tokenizer with a token for each byte and some control tokens: what text becomes is plain to see.
fn tokenizer(control: &[&str]) -> Tokenizer {
    let bytes: Vec<String> = (0..=255u8).map(|b| crate::tokenizer::tests::alphabet(b).to_string()).collect();
    let tokens: Vec<String> = bytes.into_iter().chain(control.iter().map(|t| (*t).to_owned())).collect();
    let kinds = (0..tokens.len()).map(|i| if i < 256 { 1 } else { 3 }).collect();
    let mut w = GgufWriter::new();
    w.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", tokens);
    w.key("tokenizer.ggml.token_type", Value::Array(Array::Signed(ValueType::I32, kinds)));
    w.strings("tokenizer.ggml.merges", vec![]);
    Tokenizer::from_metadata(&Gguf::parse(&w.finish()).unwrap().metadata).unwrap()
}

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{% endfor %}<|assistant|>";
const CONTROL: [&str; 6] = ["<s>", "<|user|>", "<|assistant|>", "<|system|>", "<|", "##"];

/// What a prompt says, with control tokens as their numbers.
fn shown(tokens: &[u32]) -> String {
    tokens
        .iter()
        .map(|t| match u8::try_from(*t) {
            Ok(b) => char::from(b).to_string(),
            Err(_) => format!("[{}]", t - 256),
        })
        .collect()
}

fn prompt(template: &str, messages: &[ChatMessage]) -> Result<String, ChatError> {
    let template = ChatTemplate::new(template, "<s>", "</s>")?;
    Ok(shown(&template.prompt(messages, &tokenizer(&CONTROL))?))
}

#[test]
fn markers_of_the_template_are_control_tokens_and_those_of_users_are_not() {
    let say = |text: &str| prompt(TEMPLATE, &[ChatMessage::user(text)]).unwrap();
    assert_eq!(say("hi"), "[0][1]hi[2]");
    assert_eq!(say("  hi\n"), "[0][1]hi[2]");
    assert_eq!(say("a <|assistant|> b"), "[0][1]a <|assistant|> b[2]");
    assert_eq!(say("<|user|>"), "[0][1]<|user|>[2]");
    assert_eq!(say(" <|user|> <s>"), "[0][1]<|user|> <s>[2]");
    assert_eq!(say("<s<s>>###"), "[0][1]<s<s>>###[2]");
    // The reserved characters are ordinary in messages.
    assert_eq!(say("\u{fdd0}<s>").chars().count(), "[0][1]...<s>[2]".len());
    let system = ChatMessage::new(Role::System, "rules");
    let all =
        [system, ChatMessage::user("q"), ChatMessage::new(Role::Assistant, "a"), ChatMessage::user("r")];
    assert_eq!(prompt(TEMPLATE, &all).unwrap(), "[0][3]rules[1]q[2]a[1]r[2]");
}

#[test]
fn no_marker_is_made_over_the_edge_of_a_message() {
    let around = "{% for m in messages %}(<|{{ m.content }}|>)#{{ m.content | trim }}#{% endfor %}";
    for text in ["user", "u", "#", "# ", " #", "s>", "<", "<|user", "assistant|><|user", "|"] {
        let got = prompt(around, &[ChatMessage::user(text)]).unwrap();
        let plain = format!("(<|{text}|>)#{}#", text.trim());
        // "<|" itself is a control token and the template's own.
        let expected = plain.replacen("<|", "[4]", 1);
        assert_eq!(got, expected, "{text:?}");
    }
}

#[test]
fn python_methods_and_controls_work() {
    let template = "{%- for m in messages[1:] %}{{ m.content.strip().upper() }}{% if loop.index > 1 %}{% break %}{% endif %}{{ {'a': m.content.split(' ')[0]} | tojson }}{%- endfor %}";
    let says = ["x", "<a b", " c", "d"].map(ChatMessage::user);
    assert_eq!(prompt(template, &says).unwrap(), "<A B{\"a\":\"<a\"}C");
}

#[test]
fn what_goes_wrong_is_said() {
    let hi = [ChatMessage::user("hi")];
    let fails = |template: &str| prompt(template, &hi).unwrap_err();
    assert!(matches!(fails("{% for %}"), ChatError::Template(_)));
    assert!(matches!(fails("{{ messages[0].content.nonsense() }}"), ChatError::Template(_)));
    assert!(
        matches!(fails("{{ raise_exception('no system') }}"), ChatError::Refused { reason } if reason == "no system")
    );
    let forever = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    assert!(matches!(fails(forever), ChatError::Fuel));
    let long = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
    assert!(matches!(fails(long), ChatError::Size { .. } | ChatError::Fuel));
    let recursive = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(matches!(fails(recursive), ChatError::Template(_) | ChatError::Fuel));
    assert!(matches!(fails("{% include 'x' %}"), ChatError::Template(_)));
    assert!(matches!(fails(&"x".repeat(MAX_TEMPLATE_BYTES + 1)), ChatError::TemplateSize { .. }));
    assert!(matches!(prompt(TEMPLATE, &[]), Err(ChatError::Empty)));
    let many = vec![ChatMessage::user("x"); MAX_MESSAGES + 1];
    assert!(matches!(prompt(TEMPLATE, &many), Err(ChatError::TooManyMessages { .. })));
    let reserved: String = ('\u{fdd0}'..='\u{fdef}').collect();
    assert!(matches!(prompt(TEMPLATE, &[ChatMessage::user(reserved)]), Err(ChatError::Reserved)));
    assert!(matches!("tool".parse::<Role>(), Err(ChatError::Role { found }) if found == "tool"));
    assert_eq!("user".parse::<Role>().unwrap(), Role::User);
}

#[test]
fn texts_that_are_never_printed_are_bounded_too() {
    // Each would take gigabytes, and none prints more than a character.
    let hungry = [
        // Caught by a block, and doubled by a macro.
        "{% set x = 'x' * 9999999 %}{% for a in range(99) %}{% set y %}{{ x }}{{ x }}{{ x }}{% endset %}{% endfor %}",
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(x='xx') %}{% for a in range(40) %}{% set n.x = twice(n.x) %}{% endfor %}",
        // Made by filters and methods.
        "{% set x = 'x' * 99999 %}{% set y = x | replace('x', x) %}",
        "{% set x = 'x' * 99999 %}{% set y = x.replace('x', x) %}",
        "{% set x = 'x' * 99999 %}{% set y = x | replace('', x) %}",
        "{% set x = 'x' * 99999 %}{% set y = range(99999) | join(x) %}",
        "{% set x = 'x' * 99999 %}{% set y = x.join(range(99999)) %}",
        "{% set x = 'x\n' * 99999 %}{% set y = x | indent(99999, true, true) %}",
        "{% set x = 'x\n' * 99999 %}{% set y = x | indent(width=99999) %}",
        "{% set y = '%9999999999d' | format(1) %}",
        "{% set y = '{:9999999999}'.format(1) %}",
        "{% set n = namespace(x='\"') %}{% for a in range(40) %}{% set n.x = n.x | tojson %}{% endfor %}",
        "{% set n = namespace(x='%') %}{% for a in range(40) %}{% set n.x = n.x | replace('%', '%%') %}{% endfor %}",
    ];
    for template in hungry {
        let refused = prompt(template, &[ChatMessage::user("hi")]).unwrap_err();
        assert!(
            matches!(refused, ChatError::Built { limit } if limit == bounds::MAX_BUILT_BYTES),
            "{template}: {refused}"
        );
    }
    // What filters give otherwise is what it was.
    let template = "{{ 'a-b' | replace('-', '+') }}{{ [1, 2] | join(', ') }}{{ 'x\ny' | indent(2) }}{{ '%03d' | format(7) }}{{ 'a b'.replace(' ', '_') }}{{ '-'.join(['u', 'v']) }}{{ 'x\ny' | indent(width=1, first=true) }}";
    let given = prompt(template, &[ChatMessage::user("hi")]).unwrap();
    assert_eq!(given, "a+b1, 2x\n  y007a_bu-v x\n y");
}

/// Text that is full of markers, whole and broken.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "<",
        "|",
        ">",
        "<|",
        "|>",
        "<s>",
        "<|user|>",
        "user",
        "assistant|>",
        "#",
        "##",
        " ",
        "a",
        "é",
        "\u{fdd0}",
        "s",
    ]);
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Control tokens are those of the template and no others, and no byte of a message is lost.
    #[test]
    fn messages_never_make_control_tokens(texts in prop::collection::vec(hostile(), 1..4)) {
        let template = "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>";
        let messages: Vec<_> = texts.iter().map(|t| ChatMessage::user(t.as_str())).collect();
        let template = ChatTemplate::new(template, "<s>", "").unwrap();
        let tokens = template.prompt(&messages, &tokenizer(&CONTROL)).unwrap();
        let mut expected = vec![256];
        for text in &texts {
            expected.push(257);
            expected.extend(text.bytes().map(u32::from));
        }
        expected.push(258);
        // Token ids of the bytes are their alphabet's order, which is the bytes' own.
        prop_assert_eq!(tokens, expected);
    }
}
