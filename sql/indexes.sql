-- Indexes that `postrider migrate` makes beside the traffic: indexes.py says how. A migration would hold up all writes until
-- they are made. One statement a line. Whoever lacks one of them is slower and not wrong. A migration drops what goes.

-- Lists newest first, by what they are filtered by.
create index jobs_account_list_idx on jobs (org_id, account_id, created_at desc, id desc);
create index jobs_phone_list_idx on jobs (org_id, phone, created_at desc, id desc);
create index jobs_history_account_list_idx on jobs_history (org_id, account_id, created_at desc, id desc);
create index jobs_history_phone_list_idx on jobs_history (org_id, phone, created_at desc, id desc);
create index incoming_account_list_idx on incoming (org_id, account_id, created_at desc, id desc);
create index incoming_phone_list_idx on incoming (org_id, phone, created_at desc, id desc);

-- Those of jobs by their state are for the history, where it stays. In jobs, which is small, a job changes its state five
-- times, and each time would be one more entry of such an index; only ends that are rare have some.
create index jobs_history_state_list_idx on jobs_history (org_id, state, created_at desc, id desc);
create index jobs_history_account_state_list_idx on jobs_history (org_id, account_id, state, created_at desc, id desc);
create index jobs_failed_list_idx on jobs (org_id, created_at desc, id desc) where state = 'failed';
create index jobs_cancelled_list_idx on jobs (org_id, created_at desc, id desc) where state = 'cancelled';
