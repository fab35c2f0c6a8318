//! What templates may read.

use super::*;

/// What is read and leaves nothing behind is bounded too, by whatever way it is read.
#[test]
fn what_is_read_is_bounded() {
    let control = tokenizer(&CONTROL);
    let render = |template: &str, limit: usize| {
        let template = ChatTemplate::new(template, "<s>", "</s>").unwrap();
        template.render_within(&[ChatMessage::user("hi")], control.control(), limit)
    };
    let greedy = [
        // Filters, by themselves and by name.
        "x | replace('x', '')",
        "x | length",
        "x | count",
        "x | last",
        "x | default(1)",
        "x | split('y')",
        "x | lines | length",
        "x | trim('x')",
        "[x] | join | trim('x')",
        "[x, x] | max",
        "[x, x] | sort | first",
        "[x, x] | unique | length",
        "[x] | map('length') | list",
        "[x] | select('eq', x) | list",
        "[1] | reject('in', x) | list",
        "[1] | map(attribute=x) | list",
        "[[x]] | map(attribute='0.9') | list",
        "messages | selectattr('role', 'eq', x) | list",
        "messages | sort(attribute=x)",
        // Tests.
        "x is eq x",
        "[1] | select('==', x) | list",
        "x is lessthan x",
        "'y' is in(x)",
        "x is lower",
        "'y' is startingwith x",
        // Operators.
        "x == x",
        "x == x ~ ''",
        "not x != x",
        "x < x",
        "1 < 2 < x",
        "'y' in x",
        "'y' not in x",
        "x in {}",
        "x in ['y']",
        "x in [x]",
        "[x] == [x]",
        "{'a': x} == {'a': x}",
        "{x: 1}",
        "x[5]",
        "x[-1]",
        "x[1:2]",
        "{}[x]",
        // Methods.
        "x.find('y')",
        "x.rfind('y')",
        "x.count('y')",
        "x.isalpha()",
        "x.strip('x')",
        "x.split('y')",
        "'y'.startswith(x)",
        "'y'.endswith([x])",
        "[x].count(x)",
        "{}.get(x)",
        "loop.changed(x)",
        "loop.changed(a=x)",
        "loop.changed(*[x])",
    ];
    for read in greedy {
        let template = format!(
            "{{% set x = 'x' * 9999 %}}{{% for i in range(9999) %}}{{% set y = {read} %}}{{% endfor %}}"
        );
        match render(&template, 1 << 20) {
            Err(ChatError::Read { limit }) => assert_eq!(limit, 1 << 20),
            other => panic!("{read}: {other:?}"),
        }
    }
    for walk in [
        "{% set x = 'x' * 9999 %}{% for i in range(9999) %}{% for c in x %}{% break %}{% endfor %}{% endfor %}",
        "{% set x = 'x' * 9999 %}{% for i in range(9999) %}{% include x ignore missing %}{% endfor %}",
        "{% set x = 'x' * 9999 %}{% for i in [x] * 999 recursive %}{% if loop.depth0 == 0 %}{{ loop(x) }}{% else %}{% break %}{% endif %}{% endfor %}",
        "{% for i in range(9999) %}{% set y = -1 in range(9999) %}{% endfor %}",
        "{% for i in range(9999) %}{% set y = range(9999)[9998] %}{% endfor %}",
        "{% for i in range(9999) %}{% set y = range(9999) | last %}{% endfor %}",
        // No name of a template stands before those that count.
        "{% macro in(x) %}{% endmacro %}{% set x = 'x' * 9999 %}{% for i in range(9999) %}{% set y = 'y' in x %}{% endfor %}",
    ] {
        let read = render(walk, 1 << 20);
        assert!(matches!(read, Err(ChatError::Read { .. })), "{walk}: {read:?}");
    }
    // The limit of all chats: sixteen texts that are compared would be read whole.
    let all = "{% set x = 'x' * 67108864 %}{% set y = [x] * 16 == 1 %}";
    let refused = prompt(all, &[ChatMessage::user("hi")]).unwrap_err();
    assert!(matches!(refused, ChatError::Read { limit: 0x4000_0000 }), "{refused}");
}

/// A long chat through a template that looks at every message several times stays far from the limits.
#[test]
fn what_templates_read_of_long_chats_is_allowed() {
    let template = "{% for m in messages %}{% if m.role == 'user' and m['content'] != '' and messages | length > 1 %}{% set c = m.content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}{% if c is string and not c.startswith('x') and c.endswith('y') %}{{ c | trim }}{% endif %}{% if (messages[loop.index0 - 1] | default({})).role in ['user', 'system'] and 'tool_calls' not in m %}.{% endif %}{% endif %}{% endfor %}";
    let messages: Vec<_> =
        (0..1000).map(|i| ChatMessage::user(format!("a</think>\n{i}{}y", "b".repeat(200)))).collect();
    let template = ChatTemplate::new(template, "<s>", "</s>").unwrap();
    let (text, _) = template.render_within(&messages, tokenizer(&CONTROL).control(), 1 << 24).unwrap();
    assert!(text.starts_with("0bb") && text.ends_with("by."));
}
