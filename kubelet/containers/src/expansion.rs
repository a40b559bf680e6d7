//! `$(VAR)` references in commands, arguments, environment values and subPathExpr.

/// Replaces each `$(NAME)` that `lookup` knows. `$$` is a literal `$`; what is unknown or unclosed stays as written.
pub fn expand<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match after.chars().next() {
            Some('$') => {
                output.push('$');
                rest = &after[1..];
            }
            Some('(') => match after.find(')') {
                Some(end) => {
                    match lookup(&after[1..end]) {
                        Some(value) => output.push_str(value),
                        None => {
                            output.push('$');
                            output.push_str(&after[..=end]);
                        }
                    }
                    rest = &after[end + 1..];
                }
                None => {
                    output.push_str("$(");
                    rest = &after[1..];
                }
            },
            _ => {
                output.push('$');
                rest = after;
            }
        }
    }
    output.push_str(rest);
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_and_the_rest_stays() {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            _ => None,
        };
        for (input, output) in [
            ("plain", "plain"),
            ("$(A)", "1"),
            ("x-$(A)-$(A)", "x-1-1"),
            ("$(EMPTY)x", "x"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("ü$(A)", "ü1"),
        ] {
            assert_eq!(expand(input, lookup), output, "{input}");
        }
    }
}
