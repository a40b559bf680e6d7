//! `--token-auth-file`: a CSV of token, user, uid and optionally groups in one quoted field.

use request::User;
use std::collections::HashMap;
use std::path::Path;

#[derive(Default)]
pub struct TokenFile {
    users: HashMap<String, User>,
}

impl TokenFile {
    /// Reads the file; it is not read again.
    pub fn read(path: &Path) -> anyhow::Result<TokenFile> {
        use anyhow::Context;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading the token file {}", path.display()))?;
        TokenFile::parse(&text).with_context(|| format!("in the token file {}", path.display()))
    }

    pub fn parse(text: &str) -> anyhow::Result<TokenFile> {
        let mut users = HashMap::new();
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
            let fields = fields(line);
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                anyhow::bail!("line {}: a line needs at least token, user and uid", n + 1);
            };
            let groups = rest.first().map(|g| g.split(',').map(|g| g.trim().to_owned()).collect()).unwrap_or_default();
            users.insert(token.clone(), User { name: name.clone(), uid: uid.clone(), groups, ..User::default() });
        }
        Ok(TokenFile { users })
    }

    pub fn authenticate(&self, token: &str) -> Option<User> {
        self.users.get(token).cloned()
    }
}

/// Splits at commas outside double quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for c in line.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().into_iter().for_each(|f| f.push(c)),
        }
    }
    fields.into_iter().map(|f| f.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_in_one_quoted_field() {
        let file = TokenFile::parse("t1,admin,1,\"system:masters,dev\"\nt2,bob,2\n").unwrap();
        assert_eq!(file.authenticate("t1").unwrap().groups, ["system:masters", "dev"]);
        assert_eq!(file.authenticate("t2").unwrap().name, "bob");
        assert!(file.authenticate("t3").is_none());
        assert!(TokenFile::parse("t1,admin").is_err());
    }
}
