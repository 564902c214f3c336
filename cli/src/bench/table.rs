//! Markdown tables whose columns also line up as text.

/// The first row is the heading; columns but the first are numbers.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(move |row| row.get(column)).map(|cell| cell.chars().count());
    let widths: Vec<usize> = (0..columns).map(|column| width(column).max().unwrap_or(0).max(3)).collect();
    let line = |row: &Vec<String>| {
        let cell = |(at, text): (usize, &String)| match at {
            0 => format!("{text:<width$}", width = widths[at]),
            _ => format!("{text:>width$}", width = widths[at]),
        };
        format!("| {} |", row.iter().enumerate().map(cell).collect::<Vec<_>>().join(" | "))
    };
    let rule = |(at, width): (usize, &usize)| match at {
        0 => "-".repeat(width + 2),
        _ => format!("{}:", "-".repeat(width + 1)),
    };
    let rule = format!("|{}|", widths.iter().enumerate().map(rule).collect::<Vec<_>>().join("|"));
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(1.min(lines.len()), rule);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["model", "ms"], ["a", "10.5"], ["longer", "7"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| cell.to_string()).collect()).collect();
        assert_eq!(
            table(&rows),
            ["| model  |   ms |", "|--------|-----:|", "| a      | 10.5 |", "| longer |    7 |"]
        );
    }
}
