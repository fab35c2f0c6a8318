//! Pieces of HTML.
use super::super::number::visible;

/// A name from outside as text: no markup, no quotes, no characters that can't be seen.
pub(super) fn escaped(text: &str) -> String {
    escaped_line(&visible(text))
}

/// Text of several lines, likewise.
pub(super) fn escaped_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| escaped(&line.replace('\t', "    "))).collect();
    lines.join("\n")
}

fn escaped_line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A picture with its caption; on a narrow screen it scrolls sideways.
pub(super) fn figure(svg: &str, caption: &str) -> String {
    format!(
        "<figure>\n<div class=\"wide\" tabindex=\"0\">\n{svg}</div>\n<figcaption>{caption}</figcaption>\n</figure>\n"
    )
}

/// The head of a column, markup already; names stand left, figures right.
pub(super) fn head(class: &str, content: &str) -> String {
    format!("<th scope=\"col\" class=\"{class}\">{content}</th>")
}

/// A table; heads are from [`head`], rows markup already.
pub(super) fn table(class: &str, heads: &[String], rows: &[String]) -> String {
    format!(
        "<div class=\"wide\" tabindex=\"0\">\n<table class=\"{class}\">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n\
         {}</tbody>\n</table>\n</div>\n",
        rows.concat(),
        heads = heads.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        assert_eq!(
            escaped("<b a='1' b=\"2\">&\u{1b}"),
            "&lt;b a=&#39;1&#39; b=&quot;2&quot;&gt;&amp;\u{fffd}"
        );
        assert_eq!(escaped_lines("a\r\n\tb\0\n<"), "a\n    b\u{fffd}\n&lt;");
    }
}
