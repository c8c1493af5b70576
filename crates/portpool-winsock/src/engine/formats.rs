//! Formats of printf as the C library of Windows reads them, in the words of the one here.
//!
//! `%I64d`, `%I32d` and `%Id` are widths there; `l` means 32 bits; `%ws` is a wide string, `%hs` a
//! narrow one, and plain `%s` is as wide as the format.

/// A format of narrow letters.
pub(crate) fn narrow_format(format: &[u8]) -> Vec<u8> {
    let format: Vec<i32> = format.iter().map(|byte| i32::from(*byte)).collect();
    let translated = translate(&format, false);
    // Bytes went in, and what is put in between is ASCII.
    translated.into_iter().map(|letter| letter as u8).collect()
}

/// A format of wide letters.
pub(crate) fn wide_format(format: &[i32]) -> Vec<i32> {
    translate(format, true)
}

fn translate(format: &[i32], is_wide: bool) -> Vec<i32> {
    let mut out = Vec::with_capacity(format.len() + 8);
    let mut rest = format;
    while let Some((letter, after)) = rest.split_first() {
        out.push(*letter);
        rest = after;
        if *letter != letter_of(b'%') {
            continue;
        }
        let flags = rest
            .iter()
            .take_while(|it| is_one_of(**it, b"-+ #0123456789.*"))
            .count();
        out.extend_from_slice(&rest[..flags]);
        rest = &rest[flags..];
        let (size, after) = size(rest);
        rest = after;
        if let Some((conversion, after)) = rest.split_first() {
            let (size, conversion) = convert(size, *conversion, is_wide);
            out.extend(size.iter().map(|byte| letter_of(*byte)));
            out.push(conversion);
            rest = after;
        }
    }
    out
}

/// What stands before a conversion.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    None,
    /// `I64` and `ll`.
    Bits64,
    /// `I32` and `l`.
    Bits32,
    /// `I`, as large as a pointer.
    Pointer,
    /// `h` before letters, 16 bits before numbers.
    Half,
    /// `hh`
    Quarter,
    /// `w`
    Wide,
    /// `j`, `z`, `t`, `L`, which are the same here.
    Same(u8),
}

fn size(rest: &[i32]) -> (Size, &[i32]) {
    let sizes: [(&[u8], Size); 12] = [
        (b"I64", Size::Bits64),
        (b"I32", Size::Bits32),
        (b"ll", Size::Bits64),
        (b"hh", Size::Quarter),
        (b"I", Size::Pointer),
        (b"l", Size::Bits32),
        (b"h", Size::Half),
        (b"w", Size::Wide),
        (b"j", Size::Same(b'j')),
        (b"z", Size::Same(b'z')),
        (b"t", Size::Same(b't')),
        (b"L", Size::Same(b'L')),
    ];
    let starts = |word: &[u8]| {
        rest.len() > word.len()
            && word
                .iter()
                .zip(rest)
                .all(|(wanted, letter)| letter_of(*wanted) == *letter)
    };
    match sizes.into_iter().find(|(word, _)| starts(word)) {
        Some((word, size)) => (size, &rest[word.len()..]),
        None => (Size::None, rest),
    }
}

fn convert(size: Size, conversion: i32, is_wide: bool) -> (Vec<u8>, i32) {
    let is_text = is_one_of(conversion, b"sScC");
    if is_text {
        let is_other = is_one_of(conversion, b"SC");
        let wide = match size {
            Size::Half => false,
            Size::Bits32 | Size::Wide => true,
            _ => is_wide != is_other,
        };
        let conversion = if is_one_of(conversion, b"sS") {
            b's'
        } else {
            b'c'
        };
        let size = if wide { b"l".to_vec() } else { Vec::new() };
        return (size, letter_of(conversion));
    }
    let size: &[u8] = match size {
        Size::None | Size::Bits32 | Size::Wide => b"",
        Size::Bits64 => b"ll",
        Size::Pointer => b"z",
        Size::Half => b"h",
        Size::Quarter => b"hh",
        Size::Same(letter) => &[letter],
    };
    (size.to_vec(), conversion)
}

fn is_one_of(letter: i32, letters: &[u8]) -> bool {
    letters.iter().any(|it| letter_of(*it) == letter)
}

fn letter_of(byte: u8) -> i32 {
    byte.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(format: &str) -> String {
        String::from_utf8(narrow_format(format.as_bytes())).expect("text")
    }

    fn wide(format: &str) -> String {
        let letters: Vec<i32> = format
            .chars()
            .map(|it| u32::from(it).cast_signed())
            .collect();
        let letters = wide_format(&letters).into_iter();
        letters
            .map(|it| char::from_u32(it.cast_unsigned()).expect("letter"))
            .collect()
    }

    #[test]
    fn formats_of_windows_mean_here_what_they_mean_there() {
        assert_eq!(
            narrow("%I64d %I64u %-5I64x %I32d %Iu"),
            "%lld %llu %-5llx %d %zu"
        );
        assert_eq!(narrow("%ld %lu %lld %hu %hhd"), "%d %u %lld %hu %hhd");
        assert_eq!(
            narrow("%s %ws %ls %hs %S %wc %C"),
            "%s %ls %ls %s %ls %lc %lc"
        );
        assert_eq!(wide("%s %ws %ls %hs %S %c %hc"), "%ls %ls %ls %s %s %lc %c");
        assert_eq!(wide("%08.3f%% é %p"), "%08.3f%% é %p");
        assert_eq!(narrow("100% %"), "100% %");
        assert_eq!(narrow("%l"), "%l");
    }
}
