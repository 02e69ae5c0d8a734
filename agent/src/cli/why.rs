//! `postern why [ID]`: why the last request, or the one with this decision, was refused.

use super::Format;
use clap::Args;
use postern_client::Client;
use postern_protocol::local::Denial;
use postern_protocol::{Code, Problem};

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The decision, or the beginning of its id [default: the last refusal]
    id: Option<String>,
    #[command(flatten)]
    pub(super) format: Format,
}

/// The refusal that is asked for; `None`: there was none at all.
pub(super) async fn run(args: &WhyArgs, client: &Client) -> Result<Option<Denial>, Problem> {
    find(client.denials().await?.denials, args.id.as_deref())
}

fn find(denials: Vec<Denial>, id: Option<&str>) -> Result<Option<Denial>, Problem> {
    let Some(id) = id.map(|id| id.trim().to_ascii_lowercase()).filter(|id| !id.is_empty()) else {
        return Ok(denials.into_iter().next());
    };
    let fits = |denial: &Denial| denial.problem.decision.as_ref().is_some_and(|own| own.as_str().starts_with(&id));
    let mut found: Vec<Denial> = denials.into_iter().filter(fits).collect();
    found.dedup_by(|a, b| a.problem.decision == b.problem.decision);
    match found.pop() {
        Some(denial) if found.is_empty() => Ok(Some(denial)),
        Some(_) => Err(Problem::new(Code::RequestInvalid)
            .detail("several decisions begin like this")
            .advice(None, Some("Give more of the decision's id.".into()))),
        None => Err(Problem::new(Code::NotFound)
            .detail("this agent remembers no refusal with this decision")
            .advice(None, Some("The administrator finds it: postern-relay policy explain ID".into()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_protocol::local::DenialKind;
    use postern_protocol::{DecisionId, Timestamp};

    fn denial(millis: u64, random: u128) -> Denial {
        let at = Timestamp::from_millis(millis);
        let problem = Problem::new(Code::PolicyDenied).decision(DecisionId::new(at, random << 48));
        Denial { at, app: "wiki".parse().unwrap(), kind: DenialKind::Request, problem: Box::new(problem) }
    }

    #[test]
    fn the_last_one_or_the_one_that_begins_so() {
        let (new, old) = (denial(2 << 40, 7), denial(1 << 40, 7));
        let all = || vec![new.clone(), old.clone()];
        assert_eq!(find(Vec::new(), None).unwrap(), None);
        assert_eq!(find(all(), None).unwrap(), Some(new.clone()));
        let id = old.problem.decision.as_ref().unwrap().as_str();
        assert_eq!(find(all(), Some(id)).unwrap(), Some(old.clone()));
        assert_eq!(find(all(), Some(&id[..4].to_uppercase())).unwrap(), Some(old.clone()), "{id}");
        assert_eq!(find(all(), Some("0")).unwrap_err().code, Code::RequestInvalid);
        assert_eq!(find(all(), Some("ff")).unwrap_err().code, Code::NotFound);
        let twice = vec![old.clone(), old.clone()];
        assert_eq!(find(twice, Some(id)).unwrap(), Some(old));
    }
}
