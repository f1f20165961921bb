-- Check what was there before the foreign keys of 0032; nobody waits for it.
-- Oldest code that may run on it: 0.3.0.

alter table account_changes validate constraint account_changes_account_fkey;
alter table profiles validate constraint profiles_account_fkey;
alter table incoming validate constraint incoming_account_fkey;
alter table opt_outs validate constraint opt_outs_account_fkey;
alter table qr_tokens validate constraint qr_tokens_account_fkey;
alter table checkups validate constraint checkups_account_fkey;
alter table endpoint_secrets validate constraint endpoint_secrets_endpoint_fkey;
alter table recoveries validate constraint recoveries_endpoint_fkey;
