-- Indexes that `postrider migrate` makes while messages go on; concurrent_indexes.py says how. In a migration they would
-- block all writes until they are made. Each stands on one line, since that module reads line by line. Without them queries
-- are slower, but right. To remove one, delete its line and drop it in a migration.

-- Lists newest first, by what they are filtered by.
create index jobs_account_list_idx on jobs (org_id, account_id, created_at desc, id desc);
create index jobs_phone_list_idx on jobs (org_id, phone, created_at desc, id desc);
create index jobs_history_account_list_idx on jobs_history (org_id, account_id, created_at desc, id desc);
create index jobs_history_phone_list_idx on jobs_history (org_id, phone, created_at desc, id desc);
create index incoming_account_list_idx on incoming (org_id, account_id, created_at desc, id desc);
create index incoming_phone_list_idx on incoming (org_id, phone, created_at desc, id desc);

-- By state: in the history, where the state no longer changes. In jobs a job changes its state five times, and each change
-- would add an entry; so only the rare ends, failed and cancelled, have an index there.
create index jobs_history_state_list_idx on jobs_history (org_id, state, created_at desc, id desc);
create index jobs_history_account_state_list_idx on jobs_history (org_id, account_id, state, created_at desc, id desc);
create index jobs_failed_list_idx on jobs (org_id, created_at desc, id desc) where state = 'failed';
create index jobs_cancelled_list_idx on jobs (org_id, created_at desc, id desc) where state = 'cancelled';

-- What upkeep removes with its last row, and what names it then.
create index endpoints_deleted_at_idx on endpoints (deleted_at) where deleted_at is not null;
create index accounts_deleted_at_idx on accounts (deleted_at) where deleted_at is not null;
create index opt_outs_account_id_idx on opt_outs (account_id) where account_id is not null;

-- Lanes whose wake-ups only one worker reads: the pulse looks among them for those of dead workers.
create index lanes_of_workers_idx on lanes (queue) where queue like 'account@%';
