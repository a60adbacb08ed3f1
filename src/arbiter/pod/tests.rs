//! Every rule on a whole pod, every pair of the kubelet's event table, and what no sequence of views may ever lead to.

mod bench;
mod exhaustive;
mod property;
mod removal;
mod rules;
mod table;
