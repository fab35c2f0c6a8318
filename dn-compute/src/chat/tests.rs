use proptest::prelude::*;

use super::*;
use crate::formats::gguf::{Array, Gguf, GgufWriter, Value, ValueType};

mod reads;

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

/// What operators put together is bounded, also while a template is compiled, and so are sums of many values that each are small enough.
#[test]
fn what_operators_build_is_bounded() {
    let hungry = [
        "{% set n = namespace(x='x') %}{% for a in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='x') %}{% for a in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% macro f(x, n) %}{% if n %}{{ f(x ~ x, n - 1) }}{% endif %}{% endmacro %}{{ f('x' * 99999, 30) }}",
        "{% set n = namespace(x=[1]) %}{% for a in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}{% set y = n.x | list %}",
        "{% set y = [1] * 999999999999 %}{% set z = y | list %}",
        "{% set y = range(99999) * 99999 %}",
        "{% set y = 'x' * 99999999 ~ 'y' * 99999999 ~ 'z' * 99999999 %}",
        // Each of these fits, but many are kept.
        "{% set n = namespace(x=[]) %}{% for a in range(999) %}{% set n.x = n.x + ['x' * 9999999] %}{% endfor %}",
        "{% set x = 'x' * 99999999 %}{% set y = 'y' * 99999999 %}{% set z = 'z' * 19999 %}{% for a in range(9999) %}{% set w = z[1:] %}{% endfor %}",
        "{% set x = 'x' * 9999999 %}{% for a in range(999) %}{% set y = x | upper %}{% endfor %}",
        "{% set x = [1] * 99999 %}{% for a in range(999) %}{% set y = x + x %}{% endfor %}",
        "{% set t = 'x' * 3999999 %}{{ range(*t, *t, *t) }}",
        "{% set n = namespace(x=[1]) %}{% for a in range(18) %}{% set n.x = [n.x, n.x] %}{% endfor %}{% for a in range(9999) %}{% set b = [n.x] %}{% endfor %}",
        "{% set x = 'x' * 9999999 %}{% set y = ([x] * 999999) | unique %}",
        "{% set x = 'x' * 9999999 %}{% for a in range(999) %}{% set y = x.upper() %}{% endfor %}",
        "{% set x = 'x' * 9999999 %}{% set y = ([x] * 999) | map('lower') %}",
        "{% set x = 'x' * 9999999 %}{% set y = ([x] * 999) | sum %}",
        "{% set x = 'x' * 99999 %}{% for a in range(9999) %}{% set y = x | list %}{% endfor %}",
        "{% for a in range(9999) %}{% set y = range(99999) | list %}{% endfor %}",
        "{% set y = [1] | batch(99999999999, 0) %}",
        "{% set y = [1] | slice(99999999999) %}",
        // A list of lists: forty lists, and as text or when compared a million million.
        "{% set n = namespace(x=[]) %}{% for a in range(40) %}{% set n.x = [n.x, n.x] %}{% endfor %}{% set y = n.x | string %}",
        "{% set n = namespace(x=[]) %}{% for a in range(40) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}",
        // Levels upon levels, which are printed and freed by recursion.
        "{% set n = namespace(x=[]) %}{% for a in range(999) %}{% set n.x = [n.x] %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for a in range(999) %}{% set n.x = n.x | batch(1) %}{% endfor %}",
        "{% set n = namespace(x=1) %}{% for a in range(999) %}{% set n.x = dict(x=n.x) %}{% endfor %}",
    ];
    for template in hungry {
        let refused = prompt(template, &[ChatMessage::user("hi")]).unwrap_err();
        assert!(
            matches!(refused, ChatError::Built { limit } if limit == bounds::MAX_BUILT_BYTES),
            "{template}: {refused}"
        );
    }
    // What each text of a template adds, over and over.
    let raw = format!(
        "{{% for a in range(9999) %}}{{% set y %}}{}{{% endset %}}{{% endfor %}}",
        "x".repeat(99_999)
    );
    assert!(matches!(prompt(&raw, &[ChatMessage::user("hi")]), Err(ChatError::Built { .. })));
    // A constant is not computed before it is needed.
    let unused =
        "{% if false %}{{ 'x' * 99999999 ~ 'y' * 99999999 ~ 'z' * 99999999 ~ 'z' * 99999999 }}{% endif %}.";
    assert_eq!(prompt(unused, &[ChatMessage::user("hi")]).unwrap(), ".");
}

/// Chains that an engine follows by recursion, in the syntax or in values, end in an error and not in a full stack.
#[test]
fn no_template_fills_the_stack() {
    let hi = [ChatMessage::user("hi")];
    let lazy = ["n.x[0:]", "n.x * 1", "n.x | reverse", "n.x | chain([2])", "n.x | zip | map('first') | list"];
    for step in lazy {
        let template = format!(
            "{{% set n = namespace(x=[1]) %}}{{% for a in range(3000) %}}{{% set n.x = {step} %}}{{% endfor %}}{{{{ n.x | length }}}}"
        );
        match prompt(&template, &hi) {
            Ok(_) | Err(ChatError::Built { .. }) => {}
            Err(other) => panic!("{step}: {other}"),
        }
    }
    let maps = "{% set n = namespace(x={'a': 1}) %}{% for a in range(3000) %}{% set n.x = n.x | chain({'b': 2}) %}{% endfor %}{{ n.x.a }}";
    assert_eq!(prompt(maps, &hi).unwrap(), "1");
    for (first, more) in
        [("1", "+1"), ("'x'", "~'x'"), ("'x'", "|trim"), ("x", ".x"), ("x", "[0]"), ("x", "()"), ("1", "<1")]
    {
        let long = format!("{{{{ {first}{} }}}}", more.repeat(50_000));
        assert!(matches!(prompt(&long, &hi), Err(ChatError::Template(_))), "{more}");
        // As long as it may be, it works or is wrong, and no stack is full.
        let short = format!("{{{{ {first}{} }}}}", more.repeat(300));
        let _ = prompt(&short, &hi);
    }
    for (before, after) in [
        ("-", ""),
        ("not ", ""),
        ("[", "]"),
        ("(", ")"),
        ("x[", "]"),
        ("f(", ")"),
        ("1 if ", ""),
        ("{1:", "}"),
    ] {
        for count in [120, 500, 50_000] {
            let nested = format!("{{{{ {}1{} }}}}", before.repeat(count), after.repeat(count));
            let _ = prompt(&nested, &hi);
        }
    }
    for count in [250, 9000] {
        let elif = format!("{{% if false %}}{}{{% endif %}}", "{% elif false %}".repeat(count));
        assert_eq!(prompt(&elif, &hi).is_ok(), count == 250);
    }
    // Nor does a namespace hold itself, by whatever way.
    for itself in ["n", "[n]", "{'a': [n]}", "namespace(x=n)", "loop"] {
        let template = format!(
            "{{% set n = namespace(x=1) %}}{{% for a in [n, n] %}}{{% set n.x = {itself} %}}{{{{ n }}}}{{% endfor %}}"
        );
        assert!(matches!(prompt(&template, &hi), Err(ChatError::Template(_))), "{itself}");
    }
    assert!(matches!(prompt("{{ 'x'.count('') }}", &hi), Err(ChatError::Template(_))));
}

/// The engine divides by the number of values, and would panic.
#[test]
fn a_loop_has_values_to_cycle_through() {
    let cycle = |args: &str| {
        let template = format!("{{% for a in [1, 2, 3] %}}{{{{ loop.cycle({args}) }}}}.{{% endfor %}}");
        prompt(&template, &[ChatMessage::user("hi")])
    };
    assert_eq!(cycle("'a', 'b'").unwrap(), "a.b.a.");
    assert_eq!(cycle("*['a', 'b']").unwrap(), "a.b.a.");
    assert_eq!(cycle("").unwrap(), "...");
    assert!(matches!(cycle("*[]"), Err(ChatError::Template(_))));
    assert!(cycle("**{}").is_ok());
}

/// What is measured gives what the engine gives without that.
#[test]
fn measured_operators_give_the_same() {
    let messages = ["hi", "ho"].map(ChatMessage::user);
    let mut engine = Environment::new();
    engine.set_trim_blocks(true);
    engine.set_lstrip_blocks(true);
    engine.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    for template in [
        "{{ 'a' ~ 1 ~ none ~ missing ~ 'b' }}",
        "{{ 1 + 2 }} {{ 1.5 + 2 }} {{ 'a' + 'b' }} {{ [1] + [2, 3] }}",
        "{{ 3 * 4 }} {{ 'ab' * 2 }} {{ 2 * 'ab' }} {{ [1, 2] * 2 }} {{ range(3) * 2 }}",
        "{{ 'abcdef'[1:3] }} {{ 'abc'[::-1] }} {{ [1, 2, 3][1:] }} {{ messages[1:][0].content }}",
        "{{ [1, 2, 3][:-1] }} {{ 'abcdef'[::2] }} {% for m in messages[::-1] %}{{ m.content }}{% endfor %}",
        "{{ {'a': 1 + 1}.a }} {{ [1 + 1, 2] }} {{ (1 + 2) * 3 - 4 }} {{ -(1 + 1) }} {{ 7 // 2 }} {{ 2 ** 3 }} {{ 7 % 4 }}",
        "{% set n = namespace(x='', l=[]) %}{% for m in messages %}{% set n.x = n.x + m.content %}{% set n.l = n.l + [m] %}{% endfor %}{{ n.x }}{{ n.l | length }}",
        "{{ messages | map(attribute='content') | join('+') }} {{ messages | selectattr('content', 'eq', 'ho') | list | length }}",
        "{% autoescape true %}<b>{{ '<' }}{% endautoescape %}",
        "{% macro f(a, b='c' ~ 'd') %}{{ a + b }}{{ caller() if caller }}{% endmacro %}{{ f('x') }}{% call f('y', b='z') %}!{% endcall %}{{ f(*['p', 'q']) }}{{ f(**{'a': 'r'}) }}",
        "{% filter upper %}a{{ 'b' ~ 'c' }}{% endfilter %}{% set x | trim %} a {% endset %}({{ x }})",
        "{% for a in [1, [2, 3]] recursive %}{% if a is sequence %}{{ loop(a) }}{% elif a %}{{ a }}{% else %}-{% endif %}{% endfor %}",
        "{% for k, v in {'a': 1}.items() %}{{ k ~ v }}{% endfor %}{{ {'a': 1}.get('b', 2) }}{% for k, v in {'a': 1} | items %}{{ k ~ v }}{% endfor %}",
        "{% for i in range(5) if i % 2 %}{{ i }}{% continue %}x{% else %}none{% endfor %}{% with x = 1 + 1 %}{{ x }}{% endwith %}{{ 'a b c'.split(' ')[-1] }}",
        "{{ 1 < 2 < 3 }}{{ 'a' in 'abc' }}{{ 'a' not in ['b'] }}{{ 'x' if false else 'y' }}{{ not true }}{{ 1 and 2 or 3 }}",
        "{% block a %}{{ 'x' ~ 'y' }}{% endblock %}\n{% if true %}\n  a\n{% endif %}\n\n",
        "{{ [3, 1] | sort }}{{ ['a', 'a'] | unique }}{{ [1, 2, 3] | batch(2) }}{{ [1, 2] | zip(['a', 'b']) }}{{ [1] | chain([2]) }}{{ {'b': 1, 'a': 2} | dictsort }}{{ {'a': 1} | chain({'b': 2}) }}{{ dict(a=1) }}{{ 'ab' | reverse }}{{ [1, 2] | reverse }}{{ 'ab' | list }}{{ [1, 2] | sum }}{{ [1, 2, 3] | slice(2) }}",
        "{{ 'a,b' | split(',') }}{{ 'a\nb' | lines }}{{ 'ab' | title }}{{ 'Ab' | lower | upper | capitalize }}{{ 1 | string }}{{ [0, 1] | select }}{{ [0, 1] | reject }}{{ ['a'] | map('upper') }}{{ messages | groupby('role') | length }}{{ messages | rejectattr('role') | list }}",
    ] {
        let messages: Vec<_> =
            messages.iter().map(|m| context! { role => m.role.as_str(), content => m.content }).collect();
        let wanted = engine.render_str(template, context! { messages }).unwrap();
        let given = prompt(template, &["hi", "ho"].map(ChatMessage::user)).unwrap();
        assert!(!wanted.is_empty());
        assert_eq!(given, wanted, "{template}");
    }
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
