//! Escaping of text in HTML, and tables.

use std::fmt::Write as _;

/// Escapes `text` for use as HTML text or attribute value.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
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

/// A table that scrolls where it is too wide. Each row is (label, cells, whether it is highlighted).
pub(super) fn table(corner: &str, columns: &[&str], rows: impl Iterator<Item = (String, Vec<String>, bool)>) -> String {
    let head: String = columns.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
    let mut html =
        format!("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">{corner}</th>{head}</tr></thead><tbody>");
    for (label, cells, stands_out) in rows {
        let class = if stands_out { " class=\"best\"" } else { "" };
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        let _ = write!(html, "<tr{class}><th scope=\"row\">{}</th>{cells}</tr>", escape(&label));
    }
    html + "</tbody></table></div>"
}
