//! What of a prompt a text encoder's context leaves no room for.

/// Longest text of dropped words that is shown, in characters.
const SHOWN: usize = 120;

/// A prompt that is longer than what is read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// Its tokens, without start and end.
    pub tokens: usize,
    /// Those that are read.
    pub room: usize,
    /// The words that are not, or not wholly.
    pub words: String,
}

/// What of `prompt` is not read where `room` tokens are, its tokens counted by `count`.
pub(crate) fn overflow(prompt: &str, room: usize, count: impl Fn(&str) -> usize) -> Option<Overflow> {
    let tokens = count(prompt);
    if tokens <= room {
        return None;
    }
    let starts: Vec<usize> = words(prompt);
    // The number of tokens grows with the words: the first that does not fit is found by halving.
    let end = |i: usize| starts.get(i + 1).copied().unwrap_or(prompt.len());
    let (mut low, mut high) = (0, starts.len());
    while low < high {
        let middle = (low + high) / 2;
        match count(&prompt[..end(middle)]) <= room {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    let words = prompt[starts.get(low).copied().unwrap_or_default()..].trim().to_string();
    Some(Overflow { tokens, room, words })
}

/// Where each word begins.
fn words(text: &str) -> Vec<usize> {
    let mut before = true;
    let starts =
        text.char_indices().filter(|(_, c)| std::mem::replace(&mut before, c.is_whitespace()) && !before);
    starts.map(|(at, _)| at).collect()
}

impl std::fmt::Display for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: String = self.words.chars().take(SHOWN).collect();
        let dots = if shown.len() < self.words.len() { " …" } else { "" };
        write!(f, "{} tokens, of which {} are read; not used: \"{shown}{dots}\"", self.tokens, self.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(prompt: &str, room: usize) -> Option<Overflow> {
        overflow(prompt, room, |text| text.chars().filter(|c| !c.is_whitespace()).count())
    }

    #[test]
    fn the_words_that_do_not_fit_are_named() {
        assert_eq!(found("one two three", 11), None);
        let cut = |room: usize| found(" one  two three ", room).unwrap().words;
        assert_eq!(
            [cut(10), cut(6), cut(5), cut(3), cut(2), cut(0)].map(|w| w.replace("  ", " ")),
            ["three", "three", "two three", "two three", "one two three", "one two three"]
        );
        assert_eq!(
            found("größe größe", 9).unwrap().to_string(),
            "10 tokens, of which 9 are read; not used: \"größe\""
        );
        let long = found(&"word ".repeat(1000), 4).unwrap();
        assert_eq!(long.tokens, 4000);
        assert!(long.to_string().len() < 250 && long.to_string().ends_with(" …\""));
    }
}
