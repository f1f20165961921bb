-- Indexes that `postrider migrate` makes while messages go on, and those that it drops; concurrent_indexes.py says how. In a
-- migration they would block all writes until they are made. Each stands on one line, since that module reads line by line.
-- Without them queries are slower, but right.

-- Of jobs. No column that is always written when a message is submitted, delivered or read may be in any of them, not even in
-- its `where`: Postgres would write a new entry into each index of the table (0027.hot_updates.sql). A job waits while it has
-- no claim and no end; then it is in flight; then it has ended.
create index jobs_waiting_idx on jobs (account_id, priority, due_at, seq) where claim is null and ended_at is null;
create index jobs_waiting_again_idx on jobs (account_id, phone, seq) where claim is null and ended_at is null and started_at is not null;
create index jobs_expiring_idx on jobs (expires_at) where claim is null and ended_at is null;
create index jobs_in_flight_idx on jobs (account_id) where claim is not null and ended_at is null;
create index jobs_account_sent_idx on jobs (account_id, ended_at desc nulls last) where sent_at is not null;
create index jobs_account_unsent_idx on jobs (account_id, ended_at desc nulls last) where ended_at is not null and sent_at is null;
create index jobs_unknown_idx on jobs (account_id, ended_at desc nulls last) where error_code = 'outcome_unknown' and ended_at is not null;

-- Of deliveries, in the same way: nothing that taking one writes. One that has ended has failed if it has an error.
create index deliveries_waiting_idx on deliveries (endpoint_id, due_at, created_at) where ended_at is null;
create index deliveries_open_list_idx on deliveries (endpoint_id, type, event_at, id) where ended_at is null;
create index deliveries_delivered_list_idx on deliveries (endpoint_id, type, event_at, id) where ended_at is not null and last_error is null;
create index deliveries_failed_list_idx on deliveries (endpoint_id, type, event_at, id) where ended_at is not null and last_error is not null;

-- Attempts come in the order of their time; an index of ranges of pages costs next to nothing.
create index attempts_time_idx on attempts using brin (created_at) with (autosummarize = on);

-- Lists newest first, by what they are filtered by.
create index jobs_account_list_idx on jobs (org_id, account_id, created_at desc, id desc);
create index jobs_phone_list_idx on jobs (org_id, phone, created_at desc, id desc);
create index jobs_history_account_list_idx on jobs_history (org_id, account_id, created_at desc, id desc);
create index jobs_history_phone_list_idx on jobs_history (org_id, phone, created_at desc, id desc);
create index incoming_account_list_idx on incoming (org_id, account_id, created_at desc, id desc);
create index incoming_phone_list_idx on incoming (org_id, phone, created_at desc, id desc);

-- By state: in the history, where the state no longer changes. In jobs apart what was sent, and what has failed or was cancelled.
create index jobs_history_state_list_idx on jobs_history (org_id, state, created_at desc, id desc);
create index jobs_history_account_state_list_idx on jobs_history (org_id, account_id, state, created_at desc, id desc);
create index jobs_sent_list_idx on jobs (org_id, created_at desc, id desc) where sent_at is not null;
create index jobs_unsent_list_idx on jobs (org_id, created_at desc, id desc) where case when sent_at is null then ended_at end is not null;

-- What ended on a day of an account, for reports; in jobs those of what was sent and of what was not have it.
create index jobs_history_account_ended_idx on jobs_history (account_id, ended_at);

-- What upkeep removes with its last row, and what names it then.
create index endpoints_deleted_at_idx on endpoints (deleted_at) where deleted_at is not null;
create index accounts_deleted_at_idx on accounts (deleted_at) where deleted_at is not null;
create index opt_outs_account_id_idx on opt_outs (account_id) where account_id is not null;

-- Lanes whose wake-ups only one worker reads: the pulse looks among them for those of dead workers.
create index lanes_of_workers_idx on lanes (queue) where queue like 'account@%';

-- Dropped once no process of a version before 0.6 runs: its queries would be slow without them.
drop index jobs_due_idx;
drop index jobs_content_idx;
drop index jobs_tried_idx;
drop index jobs_half_done_idx;
drop index jobs_expiry_idx;
drop index jobs_sent_idx;
drop index jobs_ticks_idx;
drop index jobs_submitted_idx;
drop index jobs_pace_idx;
drop index jobs_failed_list_idx;
drop index jobs_cancelled_list_idx;
drop index deliveries_due_idx;
drop index deliveries_half_done_idx;
drop index deliveries_open_idx;
drop index deliveries_list_idx;
drop index attempts_created_at_idx;
