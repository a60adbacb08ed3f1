//! `plegd subscribers`: who watches this node's plegd, and how far behind each is.

pub(in crate::cli) mod list;
#[cfg(test)]
mod tests;

use crate::{
    api::v1::{ListSubscribersResponse, Subscriber},
    cli::print::answer::{Output, page, show, show_json},
    clock::Wall,
};

const EXAMPLES: &str = "\
Examples:
  plegd subscribers
  plegd subscribers -o wide
  plegd subscribers -o json | jq '.subscribers[] | select(.lag > 1000)'
  plegd subscribers disconnect 7";

/// What a subscriber is called: by itself, or not at all.
pub(in crate::cli) fn called(subscriber: &Subscriber) -> &str {
    if subscriber.client_name.is_empty() { "-" } else { &subscriber.client_name }
}

/// Prints it in the form that is wanted.
fn print(list: &ListSubscribersResponse, now: Wall, output: Output) -> std::io::Result<()> {
    let (width, paint) = page();
    match output {
        Output::Json => show_json(&list::List::from(list)),
        Output::Table => show(&list::table(list, now, width, paint)),
        Output::Wide => show(&list::wide(list, paint)),
    }
}
