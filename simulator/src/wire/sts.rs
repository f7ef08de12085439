//! As much of STS as a source with a role needs: every role may be assumed, by anybody. Query protocol, XML answers.

use crate::clock::rfc3339;

/// How long assumed credentials hold.
const SESSION_MS: u64 = 3_600_000;

/// The answer to one form-encoded request; none when it is for no action we know.
pub(crate) fn answer(form: &str, account: &str, now_ms: u64) -> Option<String> {
    let action = form.split('&').find_map(|pair| pair.strip_prefix("Action="))?;
    let arn = format!("arn:aws:sts::{account}:assumed-role/simulator/simulator");
    let result = match action {
        "GetCallerIdentity" => format!("<Arn>{arn}</Arn><UserId>SIMULATOR</UserId><Account>{account}</Account>"),
        "AssumeRole" => format!(
            "<Credentials><AccessKeyId>ASIASIMULATOR</AccessKeyId><SecretAccessKey>simulator</SecretAccessKey>\
             <SessionToken>simulator</SessionToken><Expiration>{}</Expiration></Credentials>\
             <AssumedRoleUser><AssumedRoleId>SIMULATOR:simulator</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser>",
            rfc3339(now_ms + SESSION_MS)
        ),
        _ => return None,
    };
    Some(format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>simulator</RequestId></ResponseMetadata></{action}Response>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both actions are answered, others are not ours.
    #[test]
    fn answers_two_actions() {
        let assumed = answer("Version=2011-06-15&Action=AssumeRole&RoleArn=x", "123456789012", 0).expect("an answer");
        assert!(
            assumed.contains("<Expiration>1970-01-01T01:00:00Z</Expiration>"),
            "{assumed}"
        );
        let identity = answer("Action=GetCallerIdentity", "123456789012", 0).expect("an answer");
        assert!(identity.contains("<Account>123456789012</Account>"), "{identity}");
        assert_eq!(answer("Action=GetSessionToken", "123456789012", 0), None);
    }
}
