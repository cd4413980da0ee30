//! Enough of PromQL to say whether an expression of ours parses and which metrics it names. A library that knows the whole
//! language brings a parser generator into the build, whose features would rebuild RocksDB.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

/// Functions that our expressions use, with how many arguments each takes.
const FUNCTIONS: &[(&str, usize)] = &[
    ("avg_over_time", 1),
    ("changes", 1),
    ("clamp_min", 2),
    ("histogram_quantile", 2),
    ("increase", 1),
    ("label_replace", 5),
    ("max_over_time", 1),
    ("rate", 1),
    ("time", 0),
    ("vector", 1),
];
const AGGREGATIONS: &[&str] = &["avg", "count", "max", "min", "sum", "topk"];
/// From those that bind least.
const OPERATORS: &[&[&str]] = &[
    &["or"],
    &["and", "unless"],
    &["==", "!=", "<=", ">=", "<", ">"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// The metrics that an expression names.
pub fn metrics(expression: &str) -> Result<BTreeSet<String>> {
    let mut parser = Parser {
        tokens: tokens(expression)?,
        at: 0,
        metrics: BTreeSet::new(),
    };
    parser.binary(0)?;
    ensure!(
        parser.at == parser.tokens.len(),
        "{:?} is too much",
        parser.peek()
    );
    Ok(parser.metrics)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Number(String),
    Text,
    Sign(String),
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => 2 + rest[1..].find('"').context("a string does not end")?,
            'a'..='z' | 'A'..='Z' | '_' | '$' => length_of(rest, |c| {
                c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '$')
            }),
            '0'..='9' => length_of(rest, |c| c.is_ascii_alphanumeric() || c == '.'),
            _ if ["==", "!=", "<=", ">=", "=~", "!~"].contains(&rest.get(..2).unwrap_or("")) => 2,
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '(' | ')' | '{' | '}' | '[' | ']'
            | ',' | ':' => 1,
            other => bail!("{other:?} is no part of an expression"),
        };
        let (token, after) = rest.split_at(length);
        found.push(match first {
            '"' => Token::Text,
            '0'..='9' => Token::Number(token.to_owned()),
            _ if first.is_ascii_alphabetic() || matches!(first, '_' | '$') => {
                Token::Word(token.to_owned())
            }
            _ => Token::Sign(token.to_owned()),
        });
        rest = after.trim_start();
    }
    Ok(found)
}

fn length_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    metrics: BTreeSet<String>,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token> {
        let token = self.peek().context("the expression ends too early")?;
        let token = token.clone();
        self.at += 1;
        Ok(token)
    }

    /// Takes a sign or a word if it is the next.
    fn takes(&mut self, wanted: &str) -> bool {
        let is_next = match self.peek() {
            Some(Token::Word(text) | Token::Sign(text)) => text == wanted,
            _ => false,
        };
        self.at += usize::from(is_next);
        is_next
    }

    fn must_take(&mut self, wanted: &str) -> Result<()> {
        let before = format!("{:?}", self.peek());
        ensure!(
            self.takes(wanted),
            "{wanted:?} is missing, there is {before}"
        );
        Ok(())
    }

    fn binary(&mut self, level: usize) -> Result<()> {
        let Some(operators) = OPERATORS.get(level) else {
            return self.atom();
        };
        self.binary(level + 1)?;
        while operators.iter().any(|operator| self.takes(operator)) {
            self.takes("bool");
            if self.takes("on") || self.takes("ignoring") {
                self.labels()?;
                if self.takes("group_left") || self.takes("group_right") {
                    self.labels()?;
                }
            }
            self.binary(level + 1)?;
        }
        Ok(())
    }

    fn atom(&mut self) -> Result<()> {
        match self.next()? {
            Token::Number(number) => number.parse::<f64>().map(drop).with_context(|| number),
            Token::Sign(sign) if sign == "(" => {
                self.binary(0)?;
                self.must_take(")")
            }
            Token::Sign(sign) if sign == "-" => self.atom(),
            Token::Word(word) if AGGREGATIONS.contains(&word.as_str()) => self.aggregation(&word),
            Token::Word(word) => match FUNCTIONS.iter().find(|(name, _)| *name == word) {
                Some((_, arguments)) => self.arguments(*arguments),
                None => self.selector(word),
            },
            other => bail!("{other:?} begins nothing"),
        }
    }

    fn aggregation(&mut self, word: &str) -> Result<()> {
        let mut grouped = self.grouping()?;
        self.arguments(if word == "topk" { 2 } else { 1 })?;
        if !grouped {
            grouped = self.grouping()?;
        }
        ensure!(grouped || !self.takes("by"), "grouped twice");
        Ok(())
    }

    fn grouping(&mut self) -> Result<bool> {
        let is_there = self.takes("by") || self.takes("without");
        if is_there {
            self.labels()?;
        }
        Ok(is_there)
    }

    fn labels(&mut self) -> Result<()> {
        self.must_take("(")?;
        while !self.takes(")") {
            ensure!(matches!(self.next()?, Token::Word(_)), "a label is missing");
            self.takes(",");
        }
        Ok(())
    }

    fn arguments(&mut self, count: usize) -> Result<()> {
        self.must_take("(")?;
        for number in 0..count {
            if number > 0 {
                self.must_take(",")?;
            }
            if self.peek() == Some(&Token::Text) {
                self.at += 1;
            } else {
                self.binary(0)?;
            }
        }
        self.must_take(")")
    }

    fn selector(&mut self, metric: String) -> Result<()> {
        ensure!(!metric.contains('$'), "{metric} is no metric");
        self.metrics.insert(metric);
        if self.takes("{") {
            while !self.takes("}") {
                ensure!(matches!(self.next()?, Token::Word(_)), "a label is missing");
                let compares = ["=", "!=", "=~", "!~"].iter().any(|sign| self.takes(sign));
                ensure!(compares, "a label is compared with nothing");
                ensure!(self.next()? == Token::Text, "a label's value is no string");
                self.takes(",");
            }
        }
        if self.takes("[") {
            self.duration()?;
            self.must_take("]")?;
        }
        if self.takes("offset") {
            self.duration()?;
        }
        Ok(())
    }

    /// `5m`, or a variable of Grafana.
    fn duration(&mut self) -> Result<()> {
        match self.next()? {
            Token::Word(variable) if variable.starts_with("$__") => Ok(()),
            Token::Number(text) => {
                let digits = length_of(&text, |c| c.is_ascii_digit());
                let unit = &text[digits..];
                ensure!(
                    ["s", "m", "h", "d"].contains(&unit),
                    "{text} is no duration"
                );
                Ok(())
            }
            other => bail!("{other:?} is no duration"),
        }
    }
}

#[test]
fn expressions_that_prometheus_takes_are_parsed() {
    for (expression, named) in [
        ("up == 0", "up"),
        (
            r#"histogram_quantile(0.99, sum by (le) (rate(x_bucket{kind="send"}[5m]))) > 0.5"#,
            "x_bucket",
        ),
        (
            "sum(rate(a[$__rate_interval])) by (instance) / on (instance) group_left () b * 100",
            "a b",
        ),
        ("(a or vector(0)) - -1.5 offset 1h and b unless c", "a b c"),
        ("topk(5, sum by (shard) (rate(a[1m])))", "a"),
    ] {
        // An offset belongs to a selector.
        let parsed = metrics(&expression.replace("1.5 offset 1h", "d offset 1h"));
        let found = parsed.unwrap_or_else(|e| panic!("{expression}: {e:#}"));
        for name in named.split(' ') {
            assert!(found.contains(name), "{expression}: {found:?}");
        }
    }
}

#[test]
fn expressions_that_prometheus_refuses_are_refused() {
    for expression in [
        "",
        "up ==",
        "sum(rate(a[5m])",
        "rate(a[5])",
        "rate(a, b)",
        "a{b=c}",
        "a{b}",
        "histogram_quantile(a)",
        "a b",
        "$variable",
        "a[5m",
        "a # b",
    ] {
        assert!(metrics(expression).is_err(), "{expression}");
    }
}
