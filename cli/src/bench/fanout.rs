//! `parlance bench fanout`: one sender, one receiving user with many sessions over all gateways.

use super::load::{self, Part, Plan};
use super::report;
use super::session::Pace;
use super::target::Target;
use crate::args::bench::FanoutArgs;
use crate::commands::Session;
use crate::exit::not_possible;

const WARM_UP: std::time::Duration = std::time::Duration::from_secs(2);

pub async fn run(session: &Session, args: FanoutArgs) -> anyhow::Result<()> {
    if args.in_flight == 0 || args.receivers.contains(&0) {
        return Err(not_possible(
            "0 receivers or 0 messages in flight measure nothing",
        ));
    }
    let target = Target::open(session, &args.target).await?;
    let mut runs = Vec::new();
    for receivers in &args.receivers {
        let (sender, receiver) = (target.new_user()?, target.new_user()?);
        let mut sessions = vec![Part {
            user: sender.clone(),
            to: receiver.clone(),
            pace: Pace::Closed(args.in_flight),
        }];
        let silent = Part {
            user: receiver,
            to: sender,
            pace: Pace::Silent,
        };
        sessions.extend(std::iter::repeat_n(silent, *receivers));
        let plan = Plan {
            name: format!("{receivers} receivers"),
            sessions,
            payload: usize::from(args.payload),
            warm_up: WARM_UP,
            length: args.length,
            copies: *receivers as u64,
        };
        let outcome = load::run(&target, &plan).await?;
        report::say_run(&outcome);
        runs.push(outcome);
    }
    report::print(
        session,
        "fanout",
        &target,
        target.summary(&args.target),
        &runs,
        report::outcomes,
    )?;
    target.close().await
}
