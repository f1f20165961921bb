-- Kept logins: when a person can go back to one.
-- Oldest code that may run on it: 0.3.0.

create function can_go_back(p_account accounts) returns boolean language sql stable as $$
    select p_account.wanted <> 'logged_out'
       and not (p_account.linked and coalesce(p_account.lease_until > now(), false))
       and exists (select from profiles where account_id = p_account.id and kept_since is not null)
$$;
comment on function can_go_back(accounts) is
    'Whether resuming an account brings back a login that was set aside: not while it is logged out, nor while a phone has '
    'taken the code of a new one, whose history a living worker loads.';
