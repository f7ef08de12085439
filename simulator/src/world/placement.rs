//! The part of ECS's cluster query language that placement constraints and listings use most:
//! `subject == value`, `!=`, `in [a, b]`, `exists`, joined by `and`.

use super::Instance;

/// A parsed expression; an instance matches when every clause does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expression(Vec<Clause>);

#[derive(Debug, PartialEq, Eq)]
struct Clause {
    subject: String,
    test: Test,
}

#[derive(Debug, PartialEq, Eq)]
enum Test {
    Exists,
    In(Vec<String>),
    NotEqual(String),
}

impl Expression {
    /// Parses an expression; none when it is not of the supported part of the language.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts = text.split(" and ").flat_map(|part| part.split(" && "));
        parts
            .map(|part| parse_clause(part.trim()))
            .collect::<Option<Vec<_>>>()
            .map(Self)
    }

    pub(crate) fn matches(&self, instance: &Instance) -> bool {
        self.0.iter().all(|clause| clause.matches(instance))
    }
}

impl Clause {
    fn matches(&self, instance: &Instance) -> bool {
        let attribute = self.subject.strip_prefix("attribute:");
        let value = match (attribute, self.subject.as_str()) {
            (Some(name), _) => instance
                .attributes
                .get(name)
                .map(|value| value.clone().unwrap_or_default()),
            (None, "ec2InstanceId") => Some(instance.ec2_instance_id.clone()),
            (None, "agentConnected") => Some(instance.agent_connected.to_string()),
            (None, _) => None,
        };
        match &self.test {
            Test::Exists => value.is_some(),
            Test::In(wanted) => value.is_some_and(|value| wanted.contains(&value)),
            Test::NotEqual(unwanted) => value.as_ref() != Some(unwanted),
        }
    }
}

fn parse_clause(text: &str) -> Option<Clause> {
    let (subject, rest) = text.split_once(' ')?;
    let rest = rest.trim();
    let test = if rest == "exists" {
        Test::Exists
    } else if let Some(value) = rest.strip_prefix("==") {
        Test::In(vec![value.trim().to_owned()])
    } else if let Some(value) = rest.strip_prefix("!=") {
        Test::NotEqual(value.trim().to_owned())
    } else {
        let list = rest.strip_prefix("in")?.trim().strip_prefix('[')?.strip_suffix(']')?;
        Test::In(list.split(',').map(|value| value.trim().to_owned()).collect())
    };
    Some(Clause {
        subject: subject.to_owned(),
        test,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forms of AWS's documentation are understood, others are refused rather than ignored.
    #[test]
    fn parses_what_it_supports() {
        assert!(Expression::parse("attribute:ecs.instance-type == t3.medium and attribute:stack exists").is_some());
        assert!(Expression::parse("ec2InstanceId in [i-1, i-2]").is_some());
        assert_eq!(Expression::parse("attribute:x =~ t3.*"), None);
        assert_eq!(Expression::parse(""), None);
    }
}
