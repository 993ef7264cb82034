//! Tables as Docker's: columns of at least 10, three spaces between, as wide as their widest cell.

const NARROWEST: usize = 10;
const GAP: usize = 3;

/// As [`align`] in wider columns, as Docker's `top`.
pub(crate) fn align_wide(text: &str) -> String {
    align_in(text, 20)
}

/// Replaces the tabs in `text` by spaces so that the cells they end stand in columns. A column reaches over the lines
/// below each other that have a cell in it, as in Go's `tabwriter`; what is behind a line's last tab is in none.
pub(crate) fn align(text: &str) -> String {
    align_in(text, NARROWEST)
}

fn align_in(text: &str, narrowest: usize) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let has_cell = |line: &Vec<usize>| line.len() > column;
            let block = widths[start..]
                .iter()
                .take_while(|line| has_cell(line))
                .count();
            let cells = lines[start..start + block].iter();
            let widest = cells.map(|cells| cells[column].chars().count()).max();
            for line in &mut widths[start..start + block] {
                line[column] = (widest.unwrap_or(0) + GAP).max(narrowest);
            }
            start += block.max(1);
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (number, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(number) {
                out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            align("NAME\tSTATUS\nlonger-name\tUp\n"),
            "NAME          STATUS\nlonger-name   Up\n"
        );
    }

    #[test]
    fn a_narrow_column_is_ten_wide() {
        assert_eq!(align("A\tB\nx\ty\n"), "A         B\nx         y\n");
    }

    #[test]
    fn a_line_without_the_cell_ends_its_column() {
        assert_eq!(
            align("aaaaaaaaaaaaaaa\tx\nplain\nb\ty\n"),
            "aaaaaaaaaaaaaaa   x\nplain\nb         y\n"
        );
    }

    #[test]
    fn cells_are_measured_in_characters() {
        assert_eq!(
            align("ééééééééé\tx\na\ty\n"),
            "ééééééééé   x\na           y\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn aligned_lines_keep_their_cells(rows in proptest::collection::vec(
            proptest::collection::vec("[a-zé]{0,14}", 1..5), 0..8))
        {
            let lines: Vec<String> = rows.iter().map(|row| row.join("\t")).collect();
            let aligned = align(&lines.join("\n"));
            proptest::prop_assert!(!aligned.contains('\t'));
            for (row, line) in rows.iter().zip(aligned.lines()) {
                let found: Vec<&str> = line.split_whitespace().collect();
                let cells: Vec<&str> = row.iter().map(String::as_str).filter(|cell| !cell.is_empty()).collect();
                proptest::prop_assert_eq!(found, cells);
            }
        }
    }
}
