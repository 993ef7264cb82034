//! How the owners of files are shown, where they are not what the host's files have.

/// Who is shown for an owner that has no number on this side (`proc(5)`, "overflowuid").
const NOBODY: u32 = 65534;

/// Users and groups as they are shown, and as the host's files have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// The users.
    pub users: IdMap,
    /// The groups.
    pub groups: IdMap,
}

/// How one kind of number is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdMap {
    /// As it is.
    #[default]
    Same,
    /// All are shown as this one, and what is made gets it.
    Squashed(u32),
    /// By ranges; a number in none of them is shown as nobody, and cannot be given.
    Ranges(Vec<IdRange>),
}

/// Numbers in a row that stand for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first that is shown.
    pub shown: u32,
    /// The first that the host's files have.
    pub stored: u32,
    /// How many there are.
    pub count: u32,
}

impl IdMap {
    /// Returns what is shown for a number that a file has.
    pub(super) fn shown(&self, stored: u32) -> u32 {
        match self {
            IdMap::Same => stored,
            IdMap::Squashed(all) => *all,
            IdMap::Ranges(ranges) => {
                translate(ranges, stored, |range| (range.stored, range.shown)).unwrap_or(NOBODY)
            }
        }
    }

    /// Returns what a file gets for a number that is shown.
    pub(super) fn stored(&self, shown: u32) -> Option<u32> {
        match self {
            IdMap::Same => Some(shown),
            IdMap::Squashed(all) => Some(*all),
            IdMap::Ranges(ranges) => translate(ranges, shown, |range| (range.shown, range.stored)),
        }
    }
}

fn translate(
    ranges: &[IdRange],
    number: u32,
    ends: impl Fn(&IdRange) -> (u32, u32),
) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let (from, to) = ends(range);
        let offset = number.checked_sub(from)?;
        (offset < range.count).then(|| to.checked_add(offset))?
    })
}

impl Owners {
    pub(super) fn are_same(&self) -> bool {
        self.users == IdMap::Same && self.groups == IdMap::Same
    }

    /// Returns an access control list with its named users and groups as they are shown (`acl(5)`; the attribute is a
    /// version of four bytes, then entries of eight: tag, permissions, number).
    pub(super) fn acl_shown(&self, acl: &[u8]) -> Vec<u8> {
        let shown = |map: &IdMap, number| Some(map.shown(number));
        self.translated(acl, shown).unwrap_or_else(|| acl.to_vec())
    }

    /// Returns an access control list with the numbers that the host's files have; none if one cannot be given.
    pub(super) fn acl_stored(&self, acl: &[u8]) -> Option<Vec<u8>> {
        self.translated(acl, IdMap::stored)
    }

    fn translated(
        &self,
        acl: &[u8],
        translate: impl Fn(&IdMap, u32) -> Option<u32>,
    ) -> Option<Vec<u8>> {
        const NAMED_USER: u16 = 0x02;
        const NAMED_GROUP: u16 = 0x08;
        let mut acl = acl.to_vec();
        for entry in acl.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
            let map = match u16::from_le_bytes([entry[0], entry[1]]) {
                NAMED_USER => &self.users,
                NAMED_GROUP => &self.groups,
                _ => continue,
            };
            let number = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            entry[4..].copy_from_slice(&translate(map, number)?.to_le_bytes());
        }
        Some(acl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> IdMap {
        let range = |shown, stored, count| IdRange {
            shown,
            stored,
            count,
        };
        IdMap::Ranges(vec![range(0, 1000, 1), range(1, 100_000, 65535)])
    }

    #[test]
    fn numbers_are_translated_by_the_range_they_are_in() {
        let map = ranges();
        for (shown, stored) in [(0, 1000), (1, 100_000), (65535, 165_534)] {
            assert_eq!(map.shown(stored), shown);
            assert_eq!(map.stored(shown), Some(stored));
        }
        for unknown in [0, 999, 1001, 99_999, 165_535, u32::MAX] {
            assert_eq!(map.shown(unknown), NOBODY);
        }
        assert_eq!(map.stored(65536), None);
    }

    #[test]
    fn named_entries_of_an_acl_are_translated() {
        let owners = Owners {
            users: ranges(),
            groups: IdMap::Same,
        };
        let mut acl = vec![2, 0, 0, 0];
        for (tag, number) in [(0x01_u16, u32::MAX), (0x02, 1), (0x08, 7)] {
            acl.extend(tag.to_le_bytes());
            acl.extend(6_u16.to_le_bytes());
            acl.extend(number.to_le_bytes());
        }
        let stored = owners.acl_stored(&acl).unwrap();
        assert_eq!(stored[16..20], 100_000_u32.to_le_bytes());
        assert_eq!(stored[24..28], 7_u32.to_le_bytes());
        assert_eq!(owners.acl_shown(&stored), acl);
        acl[16..20].copy_from_slice(&70_000_u32.to_le_bytes());
        assert_eq!(owners.acl_stored(&acl), None);
    }
}
