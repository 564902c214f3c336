//! Values that can be made again, kept until room is needed: those used longest ago go first.

/// Pairs of a key and a value, the last used at the end. There are dozens at most: a search costs nothing beside
/// what is kept.
#[derive(Debug)]
pub(super) struct Store<K, V>(Vec<(K, V)>);

impl<K: PartialEq, V> Store<K, V> {
    pub fn new() -> Store<K, V> {
        Store(Vec::new())
    }

    pub fn contains(&self, key: &K) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// A value, which is not used by looking at it.
    pub fn find(&self, key: &K) -> Option<&V> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// Take out a value.
    pub fn take(&mut self, key: &K) -> Option<V> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    /// A value, which is used now.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        let entry = self.0.remove(at);
        self.0.push(entry);
        self.0.last_mut().map(|(_, value)| value)
    }

    /// Keep a value, used now. The key must be new.
    pub fn insert(&mut self, key: K, value: V) {
        self.0.push((key, value));
    }

    /// How many there are of the `wanted` keys.
    pub fn count(&self, wanted: impl Fn(&K) -> bool) -> usize {
        self.0.iter().filter(|(key, _)| wanted(key)).count()
    }

    /// Values, the one used longest ago first.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Take out the value used longest ago of those that are `wanted`.
    pub fn take_oldest(&mut self, wanted: impl Fn(&K, &V) -> bool) -> Option<(K, V)> {
        let at = self.0.iter().position(|(key, value)| wanted(key, value))?;
        Some(self.0.remove(at))
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut store = Store::new();
        for key in 0..4 {
            store.insert(key, 10 * key);
        }
        assert_eq!(store.get(&0), Some(&mut 0));
        assert_eq!(store.get(&2), Some(&mut 20));
        assert_eq!(store.get(&9), None);
        assert!(store.contains(&3) && !store.contains(&9));
        assert_eq!((store.find(&1), store.find(&9)), (Some(&10), None));
        assert_eq!(store.values().collect::<Vec<_>>(), [&10, &30, &0, &20]);
        assert_eq!(store.take_oldest(|_, _| true), Some((1, 10)));
        assert_eq!(store.take_oldest(|_, v| *v < 30), Some((0, 0)), "the oldest of the wanted ones");
        assert_eq!(store.take_oldest(|_, _| false), None);
        store.insert(7, 70);
        assert_eq!((store.count(|key| *key > 2), store.take_oldest(|key, _| *key > 3)), (2, Some((7, 70))));
        store.insert(5, 50);
        store.insert(6, 60);
        assert_eq!((store.take(&6), store.take(&6)), (Some(60), None));
        assert_eq!(store.take_oldest(|_, _| true), Some((3, 30)));
        assert_eq!(store.take_oldest(|_, _| true), Some((2, 20)));
        assert_eq!(store.take_oldest(|_, _| true), Some((5, 50)));
        assert_eq!(store.take_oldest(|_, _| true), None);
    }
}
