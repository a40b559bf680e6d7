//! Tokens whose signature was verified a moment ago: verifying costs more than all else in a small read. Only the signature is
//! remembered; whether the account still exists is asked each time, for that is a look into the cache.

use apimachinery::Value;
use parking_lot::Mutex;
use sha2::Digest;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENTRIES_MAX: usize = 4096;
const AGE_MAX: Duration = Duration::from_secs(10);

/// By SHA-256, so that memory holds no tokens.
type Key = [u8; 32];

#[derive(Default)]
pub struct TokenCache {
    entries: Mutex<HashMap<Key, (Instant, Arc<Value>)>>,
}

impl TokenCache {
    /// The claims of a token, verified by `verify` unless that was done a moment ago. A token past its time is not answered.
    pub fn claims(&self, token: &str, verify: impl FnOnce() -> Option<Value>) -> Option<Arc<Value>> {
        let key: Key = sha2::Sha256::digest(token).into();
        let known =
            self.entries.lock().get(&key).filter(|(since, _)| since.elapsed() < AGE_MAX).map(|(_, c)| c.clone());
        if let Some(claims) = known {
            let now = jiff::Timestamp::now().as_second();
            return claims["exp"].as_i64().is_none_or(|end| now < end).then_some(claims);
        }
        let claims = Arc::new(verify()?);
        let mut entries = self.entries.lock();
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, (since, _)| since.elapsed() < AGE_MAX);
        }
        // Still full: more tokens at once than we remember.
        if entries.len() < ENTRIES_MAX {
            entries.insert(key, (Instant::now(), claims.clone()));
        }
        Some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_verified_once_and_forgeries_every_time() {
        let cache = TokenCache::default();
        assert!(cache.claims("a", || None).is_none());
        assert!(cache.claims("a", || Some(json!({"sub": "x"}))).is_some());
        assert_eq!(cache.claims("a", || unreachable!("it is known")).unwrap()["sub"], "x");
        assert!(cache.claims("b", || Some(json!({"exp": 1}))).is_some());
        assert!(cache.claims("b", || None).is_none(), "its time is over");
    }
}
