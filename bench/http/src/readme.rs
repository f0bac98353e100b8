//! Where results are kept: between two comments of `bench/README.md`, and in `bench/plots`.

use std::fs;

use crate::Failure;

const BENCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub fn write_section(section: &str, text: &str) -> Result<(), Failure> {
    let path = format!("{BENCH}/README.md");
    fs::write(&path, replaced(&fs::read_to_string(&path)?, section, text)?)?;
    Ok(())
}

pub fn write_plot(name: &str, svg: &str) -> Result<(), Failure> {
    fs::create_dir_all(format!("{BENCH}/plots"))?;
    fs::write(format!("{BENCH}/plots/{name}.svg"), svg)?;
    Ok(())
}

fn replaced(document: &str, section: &str, text: &str) -> Result<String, Failure> {
    let (start, end) = (format!("<!-- {section} -->\n"), format!("<!-- end of {section} -->\n"));
    let (head, rest) = document.split_once(&start).ok_or("README.md has no such section")?;
    let (_, tail) = rest.split_once(&end).ok_or("README.md has a section without an end")?;
    Ok(format!("{head}{start}\n{}\n\n{end}{tail}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_what_is_between_the_comments_is_replaced() {
        let document = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
        let once = replaced(document, "x", "new\n").unwrap();
        assert_eq!(once, "a\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nb\n");
        assert_eq!(replaced(&once, "x", "new").unwrap(), once);
        assert!(replaced(document, "y", "new").is_err());
        assert!(replaced("<!-- x -->\n", "x", "new").is_err());
    }
}
