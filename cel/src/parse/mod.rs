//! From text to tree, macros expanded. Precedence climbing over the tokens of [`lex`].

mod lex;
mod macros;

use crate::ast::{Ast, Entry, Expr, Id, Issue, Issues, Item, Literal, Name};
use lex::{Spanned, Token};

/// Characters of an expression. (cel-go's limit.)
pub const SOURCE_CHARS_MAX: usize = 100_000;
/// How deep an expression may nest: what walks its tree recurses so deep. Chains of `&&` and `||` do not nest.
pub const DEPTH_MAX: u16 = 100;

/// Words that are kept for the future: no variable has them for a name.
pub(crate) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Binary operators by how strongly they bind.
const OPERATORS: [(&str, u8, &str); 12] = [
    ("==", 3, "_==_"),
    ("!=", 3, "_!=_"),
    ("<", 3, "_<_"),
    ("<=", 3, "_<=_"),
    (">", 3, "_>_"),
    (">=", 3, "_>=_"),
    ("in", 3, "@in"),
    ("+", 4, "_+_"),
    ("-", 4, "_-_"),
    ("*", 5, "_*_"),
    ("/", 5, "_/_"),
    ("%", 5, "_%_"),
];

/// Parses an expression.
///
/// # Errors
/// What is wrong with its syntax; the first thing only.
pub fn parse(source: &str) -> Result<Ast, Issues> {
    let fail = |issue: Issue| Issues { source: source.into(), list: vec![issue] };
    let length = source.chars().take(SOURCE_CHARS_MAX + 1).count();
    if length > SOURCE_CHARS_MAX {
        let message = format!(
            "expression code point size exceeds limit: size: {}, limit {SOURCE_CHARS_MAX}",
            source.chars().count()
        );
        return Err(Issues { source: "".into(), list: vec![Issue { offset: None, message }] });
    }
    let mut parser = Parser {
        tokens: lex::tokens(source).map_err(fail)?,
        at: 0,
        nesting: 0,
        nodes: vec![],
        offsets: vec![],
        depths: vec![],
    };
    let root = parser.expression().map_err(fail)?;
    parser.end().map_err(fail)?;
    Ok(Ast { source: source.into(), nodes: parser.nodes, offsets: parser.offsets, root })
}

type Parsed<T> = Result<T, Issue>;

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    nesting: u16,
    nodes: Vec<Expr>,
    offsets: Vec<u32>,
    /// How deep the tree below each node is.
    depths: Vec<u16>,
}

fn too_deep() -> Issue {
    Issue { offset: None, message: format!("expression recursion limit exceeded: {DEPTH_MAX}") }
}

impl Parser {
    fn peek(&self) -> &Spanned {
        &self.tokens[self.at]
    }

    fn advance(&mut self) -> Spanned {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn is(&self, punct: &str) -> bool {
        matches!(self.peek().token, Token::Punct(p) if p == punct)
    }

    fn take(&mut self, punct: &str) -> bool {
        let found = self.is(punct);
        if found {
            self.advance();
        }
        found
    }

    fn mismatch(&self, expecting: &str) -> Issue {
        let Spanned { offset, text, .. } = self.peek();
        Issue {
            offset: Some(*offset),
            message: format!("Syntax error: mismatched input '{text}' expecting {expecting}"),
        }
    }

    fn expect(&mut self, punct: &str) -> Parsed<()> {
        if self.take(punct) { Ok(()) } else { Err(self.mismatch(&format!("'{punct}'"))) }
    }

    fn end(&self) -> Parsed<()> {
        if self.peek().token == Token::End { Ok(()) } else { Err(self.mismatch("<EOF>")) }
    }

    fn node(&mut self, offset: u32, expr: Expr) -> Parsed<Id> {
        let mut deepest = 0;
        children(&expr, |id| deepest = deepest.max(self.depths[id as usize]));
        if deepest >= DEPTH_MAX {
            return Err(too_deep());
        }
        self.nodes.push(expr);
        self.offsets.push(offset);
        self.depths.push(deepest + 1);
        Ok((self.nodes.len() - 1) as Id)
    }

    fn call(&mut self, offset: u32, name: &str, args: Vec<Id>) -> Parsed<Id> {
        self.node(offset, Expr::Call { name: name.into(), target: None, args })
    }

    fn expression(&mut self) -> Parsed<Id> {
        self.nesting += 1;
        if self.nesting > DEPTH_MAX {
            return Err(too_deep());
        }
        let condition = self.logical("||")?;
        let offset = self.peek().offset;
        let whole = if self.take("?") {
            let yes = self.logical("||")?;
            self.expect(":")?;
            let no = self.expression()?;
            self.node(offset, Expr::Conditional(condition, yes, no))?
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(whole)
    }

    /// `a || b || c`, and below it `a && b`: one node for the whole chain.
    fn logical(&mut self, operator: &str) -> Parsed<Id> {
        let or = operator == "||";
        let mut terms = vec![if or { self.logical("&&")? } else { self.binary(3)? }];
        let mut offset = 0;
        while self.is(operator) {
            offset = self.advance().offset;
            terms.push(if or { self.logical("&&")? } else { self.binary(3)? });
        }
        match terms.as_slice() {
            [one] => Ok(*one),
            _ if or => self.node(offset, Expr::Or(terms)),
            _ => self.node(offset, Expr::And(terms)),
        }
    }

    fn binary(&mut self, strength_min: u8) -> Parsed<Id> {
        let mut left = self.unary()?;
        loop {
            let Token::Punct(punct) = self.peek().token else { return Ok(left) };
            let Some((_, strength, name)) = OPERATORS.iter().find(|(p, s, _)| *p == punct && *s >= strength_min) else {
                return Ok(left);
            };
            let offset = self.advance().offset;
            let right = self.binary(strength + 1)?;
            left = self.call(offset, name, vec![left, right])?;
        }
    }

    /// Any number of `!` or of `-`: two of them are none.
    fn unary(&mut self) -> Parsed<Id> {
        let offset = self.peek().offset;
        for (punct, name) in [("!", "!_"), ("-", "-_")] {
            let mut count = 0;
            while self.is(punct) {
                // A sign belongs to the number behind it, as far as numbers go: the least int has no positive twin.
                if punct == "-" && self.number_follows() {
                    break;
                }
                self.advance();
                count += 1;
            }
            if count > 0 {
                let operand = self.member()?;
                return if count % 2 == 1 { self.call(offset, name, vec![operand]) } else { Ok(operand) };
            }
        }
        self.member()
    }

    fn number_follows(&self) -> bool {
        matches!(
            self.tokens.get(self.at + 1).map(|t| (&t.token, t.text.starts_with('.'))),
            Some((Token::Literal(Literal::Int(_) | Literal::Double(_)), _))
        )
    }

    /// `a.b`, `a.?b`, `a.f(x)`, `a[i]`, `a[?i]`, `A{…}`.
    fn member(&mut self) -> Parsed<Id> {
        let mut operand = self.primary()?;
        loop {
            let offset = self.peek().offset;
            if self.take(".") {
                let optional = self.take("?");
                let field = self.identifier("IDENTIFIER")?;
                let open = self.peek().offset;
                operand = if optional {
                    let name = self.node(offset, Expr::Literal(Literal::String(field)))?;
                    self.call(offset, "_?._", vec![operand, name])?
                } else if self.take("(") {
                    let args = self.list(")")?;
                    match self.expand(open, &field, Some(operand), &args)? {
                        Some(expanded) => expanded,
                        None => self.node(open, Expr::Call { name: field, target: Some(operand), args })?,
                    }
                } else {
                    self.node(offset, Expr::Select { operand, field, test: false })?
                };
            } else if self.take("[") {
                let name = if self.take("?") { "_[?_]" } else { "_[_]" };
                let index = self.expression()?;
                self.expect("]")?;
                operand = self.call(offset, name, vec![operand, index])?;
            } else if self.is("{")
                && let Some(name) = self.struct_name(operand)
            {
                self.advance();
                operand = self.fields(offset, name)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn struct_name(&self, id: Id) -> Option<Name> {
        match &self.nodes[id as usize] {
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select { operand, field, test: false } => {
                Some(format!("{}.{field}", self.struct_name(*operand)?).into())
            }
            _ => None,
        }
    }

    fn identifier(&mut self, expecting: &str) -> Parsed<Name> {
        match &self.peek().token {
            Token::Ident(name) => {
                let name = name.as_str().into();
                self.advance();
                Ok(name)
            }
            _ => Err(self.mismatch(expecting)),
        }
    }

    /// Expressions up to a closing bracket.
    fn list(&mut self, close: &str) -> Parsed<Vec<Id>> {
        let mut list = Vec::new();
        while !self.take(close) {
            list.push(self.expression()?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(list)
    }

    fn item(&mut self) -> Parsed<Item> {
        let optional = self.take("?");
        Ok(Item { optional, value: self.expression()? })
    }

    fn fields(&mut self, offset: u32, name: Name) -> Parsed<Id> {
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let field = self.identifier("IDENTIFIER")?;
            self.expect(":")?;
            fields.push((field, Item { optional, value: self.expression()? }));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        self.node(offset, Expr::Struct { name, fields })
    }

    fn primary(&mut self) -> Parsed<Id> {
        let Spanned { token, offset, text } = self.peek().clone();
        match token {
            Token::Literal(literal) => {
                self.advance();
                self.node(offset, Expr::Literal(literal))
            }
            Token::Punct("-") => {
                self.advance();
                let number = self.advance();
                let literal = crate::literal::number(&format!("-{}", number.text));
                let literal = literal.map_err(|message| Issue { offset: Some(offset), message })?;
                self.node(offset, Expr::Literal(literal))
            }
            Token::Punct("(") => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Punct("[") => {
                self.advance();
                let mut items = Vec::new();
                while !self.take("]") {
                    items.push(self.item()?);
                    if !self.take(",") {
                        self.expect("]")?;
                        break;
                    }
                }
                self.node(offset, Expr::List(items))
            }
            Token::Punct("{") => {
                self.advance();
                let mut entries = Vec::new();
                while !self.take("}") {
                    let key = self.item()?;
                    self.expect(":")?;
                    let value = Item { optional: key.optional, value: self.expression()? };
                    entries.push(Entry { key: key.value, value });
                    if !self.take(",") {
                        self.expect("}")?;
                        break;
                    }
                }
                self.node(offset, Expr::Map(entries))
            }
            Token::Punct(".") | Token::Ident(_) => {
                self.take(".");
                let name = self.identifier("IDENTIFIER")?;
                if RESERVED.contains(&&*name) {
                    let message = format!("reserved identifier: {name}");
                    return Err(Issue { offset: Some(offset), message });
                }
                let open = self.peek().offset;
                if !self.take("(") {
                    return self.node(offset, Expr::Ident(name));
                }
                let args = self.list(")")?;
                match self.expand(open, &name, None, &args)? {
                    Some(expanded) => Ok(expanded),
                    None => self.node(open, Expr::Call { name, target: None, args }),
                }
            }
            Token::Punct(_) | Token::End => {
                let message = format!(
                    "Syntax error: mismatched input '{text}' expecting {{'[', '{{', '(', '.', '-', '!', 'true', 'false', 'null', \
                     NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}}"
                );
                Err(Issue { offset: Some(offset), message })
            }
        }
    }
}

/// Names the nodes right below a node.
pub fn children(expr: &Expr, mut each: impl FnMut(Id)) {
    match expr {
        Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select { operand, .. } => each(*operand),
        Expr::Call { target, args, .. } => target.iter().chain(args).for_each(|id| each(*id)),
        Expr::And(terms) | Expr::Or(terms) => terms.iter().for_each(|id| each(*id)),
        Expr::Conditional(a, b, c) => [a, b, c].into_iter().for_each(|id| each(*id)),
        Expr::List(items) => items.iter().for_each(|item| each(item.value)),
        Expr::Map(entries) => entries.iter().for_each(|e| [e.key, e.value.value].into_iter().for_each(&mut each)),
        Expr::Struct { fields, .. } => fields.iter().for_each(|(_, item)| each(item.value)),
        Expr::Fold(fold) => {
            each(fold.range);
            fold.filter.iter().chain(&fold.body).for_each(|id| each(*id));
        }
        Expr::OptMap { operand, body, .. } => [operand, body].into_iter().for_each(|id| each(*id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_errors_are_placed() {
        for (source, want) in [
            ("", "ERROR: <input>:1:1: Syntax error: mismatched input '<EOF>' expecting"),
            ("a b", "ERROR: <input>:1:3: Syntax error: mismatched input 'b' expecting <EOF>"),
            ("a.in", "ERROR: <input>:1:3: Syntax error: mismatched input 'in' expecting IDENTIFIER"),
            ("x +\n #", "ERROR: <input>:2:2: Syntax error: token recognition error at: '#'"),
            ("namespace", "ERROR: <input>:1:1: reserved identifier: namespace"),
            ("has(a)", "ERROR: <input>:1:4: invalid argument to has() macro"),
            ("[1].all(1, true)", "ERROR: <input>:1:9: argument must be a simple name"),
            ("'a", "ERROR: <input>:1:1: Syntax error: token recognition error"),
        ] {
            let told = parse(source).unwrap_err().to_string();
            assert!(told.starts_with(want), "{source}: {told}");
        }
    }

    #[test]
    fn what_is_well_formed_parses() {
        for source in [
            "a.b.c[0].d('x', 1u)",
            "-1 - -x * 2 % 3 >= 4.5 && !(!b || c) ? r'\\d' : b'\\x00'",
            "a.?b[?0].orValue({'a': 1, ?'b': c,})",
            "Object{spec: Object.spec{replicas: 1, ?x: y}}",
            "[1, ?x, 2,].exists(i, i in [1, 2]) // why",
            "'''a\n'b''' + \"\"\"c\"\"\"",
            "a.namespace.package",
            "m.all(k, v, k != v) || m.transformMap(k, v, v > 1, v + 1) == {}",
            "--x",
            "!!x",
            "a.has(b)",
            "1.size()",
            ".a.b",
        ] {
            assert!(parse(source).is_ok(), "{source}: {}", parse(source).unwrap_err());
        }
    }

    #[test]
    fn depth_is_bounded_and_length_is_not_depth() {
        let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
        for (source, fits) in [
            (nested("(", ")", 99), true),
            (nested("(", ")", 100_000 / 2 - 1), false),
            (nested("[", "]", 1000), false),
            (format!("a{}", ".b".repeat(49_000)), false),
            (format!("a{}", "[0]".repeat(1000)), false),
            (format!("{}true", "true && ".repeat(10_000)), true),
            (format!("{}1", "1 + ".repeat(1000)), false),
            (format!("{}1", "a ? b : ".repeat(1000)), false),
            (format!("{}x", "!".repeat(90_000)), true),
            ("a".repeat(SOURCE_CHARS_MAX + 1), false),
        ] {
            assert_eq!(parse(&source).is_ok(), fits, "{:.40}", source);
        }
    }
}
