//! Characters that nobody sees: two ids that differ in nothing else look alike, and some of them change the order in which
//! others are shown. Ids have none.

use unicode_general_category::GeneralCategory::{
    Control, Format, LineSeparator, ParagraphSeparator,
};
use unicode_general_category::get_general_category;

/// Whether it is a control character, turns the direction of text, or is shown as nothing at all: Unicode's categories Cc, Cf,
/// Zl and Zp, and the property `Default_Ignorable_Code_Point`.
///
/// The joiners U+200C and U+200D, which some scripts are written with, and the selectors U+FE00 to U+FE0F, which some emoji
/// have, are among them.
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = get_general_category(c);
    matches!(
        category,
        Control | Format | LineSeparator | ParagraphSeparator
    ) || is_blank(c)
}

/// What is in none of the categories and yet is shown as nothing: joiners and fillers that count as marks and letters,
/// selectors, and numbers that are kept free for more of these.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2065}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The first such character.
pub fn hidden_in(text: &str) -> Option<char> {
    text.chars().find(|c| is_hidden(*c))
}

/// The text without them, for a terminal or a log.
pub fn without_hidden(text: &str) -> String {
    text.chars().filter(|c| !is_hidden(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_hidden() {
        for c in [
            '\0',
            '\n',
            '\u{7f}',
            '\u{85}', // control
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{e0041}',
            '\u{2028}',
            '\u{2029}', // lines and paragraphs
            '\u{34f}',
            '\u{1160}',
            '\u{3164}',
            '\u{ffa0}',
            '\u{fe0f}',
            '\u{e0100}', // blank
        ] {
            assert!(is_hidden(c), "U+{:04X}", u32::from(c));
        }
    }

    /// Replicas judge ids when they apply commands: builds of one feature level must agree on every character.
    #[test]
    fn which_characters_are_hidden_changes_with_a_feature_level_only() {
        let hidden = ('\0'..=char::MAX).filter(|c| is_hidden(*c));
        let (count, sum) = hidden.fold((0, 0), |(count, sum), c| (count + 1, sum + u64::from(c)));
        assert_eq!((count, sum), (4273, 3771574269));
    }

    #[test]
    fn what_people_write_is_not() {
        let text = "Alice-1_2:3@x.y Zoë Ελένη Юля 用户 ユーザー 사용자 مستخدم משתמש उपयोगकर्ता ผู้ใช้ e\u{301} 🙂 👍🏽";
        assert_eq!(hidden_in(text), None);
        assert_eq!(without_hidden("a\u{202e}b\u{200d}c"), "abc");
    }
}
