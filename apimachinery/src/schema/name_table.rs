//! Members by name: a small open hash table, since every member of every object that passes is looked up several times.

/// Positions of names in a list that its owner keeps.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    /// A power of two of slots, at most half of them taken.
    slots: Box<[u16]>,
}

const FREE: u16 = u16::MAX;

impl NameTable {
    /// Of a name that occurs twice the first counts.
    pub fn new<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> NameTable {
        let names: Vec<&str> = names.collect();
        let mut slots = vec![FREE; (names.len() * 2).next_power_of_two()].into_boxed_slice();
        for (position, name) in names.iter().enumerate() {
            let mut slot = hash(name) & (slots.len() - 1);
            while slots[slot] != FREE && names[slots[slot] as usize] != *name {
                slot = (slot + 1) & (slots.len() - 1);
            }
            if slots[slot] == FREE {
                slots[slot] = position as u16;
            }
        }
        NameTable { slots }
    }

    /// The position of `name`, given how to read the name at a position.
    pub fn find<'a>(&self, name: &str, name_at: impl Fn(usize) -> &'a str) -> Option<usize> {
        let last = self.slots.len().checked_sub(1)?;
        let mut slot = hash(name) & last;
        loop {
            match self.slots[slot] {
                FREE => return None,
                position if name_at(position as usize) == name => return Some(position as usize),
                _ => slot = (slot + 1) & last,
            }
        }
    }
}

/// Names are chosen by upstream, not by clients, so what clients ask for can at most visit a short run of slots.
fn hash(name: &str) -> usize {
    let mut hash = name.len() as u64;
    for chunk in name.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    (hash >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are() {
        let names = ["spec", "status", "metadata", "a-name-longer-than-eight-bytes", "spec"];
        let table = NameTable::new(names.iter().copied());
        let find = |name| table.find(name, |at| names[at]);
        assert_eq!(find("spec"), Some(0));
        assert_eq!(find("a-name-longer-than-eight-bytes"), Some(3));
        assert_eq!((find(""), find("specs")), (None, None));
        assert_eq!(NameTable::new([].into_iter()).find("x", |_| "x"), None);
        assert_eq!(NameTable::default().find("x", |_| "x"), None);
    }
}
