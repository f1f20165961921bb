-- name: touch_account
-- Using an account creates it.
insert into account (id, phone, name, seen_at) values (:account, :phone, :name, :now)
on conflict (id) do nothing;

-- name: get_account
select id, phone, name, banned_until, restricted, offline_until,
       (select count(*) from device where device.account = account.id) as devices
from account where id = :account;

-- name: list_accounts
select id, phone, name, banned_until, restricted, offline_until,
       (select count(*) from device where device.account = account.id) as devices
from account order by seen_at desc, id;

-- name: set_phone
update account set phone = :phone where id = :account;

-- name: set_banned
update account set banned_until = :until where id = :account;

-- name: set_restricted
update account set restricted = :restricted where id = :account;

-- name: set_offline
update account set offline_until = :until where id = :account;

-- name: add_device
-- A new device gets the messages that come in from now on.
insert into device (id, account, secret, linked_at, incoming_from)
values (:device, :account, :secret, :now, (select coalesce(max(seq), 0) from incoming where account = :account));

-- name: get_device
select id, account, secret, incoming_from from device where id = :device and account = :account;

-- name: drop_device
delete from device where id = :device and account = :account;

-- name: drop_devices
delete from device where account = :account;

-- name: add_message
-- Deduplicates by the page's id: a page that was cut off before the answer sends the same message again.
insert into message (account, id, phone, text, arrived_at, received_at)
values (:account, :id, :phone, :text, :now, :received_at)
on conflict (account, id) do nothing;

-- name: get_message
select id, phone, text, arrived_at, received_at from message where account = :account and id = :id;

-- name: held_messages
select id from message where account = :account and received_at is null;

-- name: release_messages
update message set received_at = :now where account = :account and received_at is null;

-- name: list_messages
-- The messages that recipients have received, in the order of their arrival.
select account, phone, text, received_at from message
where received_at is not null and (:phone is null or phone = :phone) and (:account is null or account = :account)
order by received_at, seq;

-- name: chat_is_known
-- Whether the account and the phone have ever exchanged a message.
select exists (select 1 from message where account = :account and phone = :phone)
    or exists (select 1 from incoming where account = :account and phone = :phone) as known;

-- name: add_incoming
insert into incoming (account, phone, text, at) values (:account, :phone, :text, :now);

-- name: add_incoming_extra
insert into incoming_extra (seq, extra) values (:seq, :extra);

-- name: incoming_since
select seq, phone, text, at, coalesce(extra, '{}') as extra
from incoming left join incoming_extra using (seq)
where account = :account and seq > :since order by seq;

-- name: spend
insert into spent (account, phone, deed) values (:account, :phone, :deed) on conflict do nothing;

-- name: start_session
insert into session (account, device, started_at) values (:account, :device, :now);

-- name: end_session
update session set ended_at = :now where seq = :seq and ended_at is null;

-- name: end_sessions
-- For the server's start: one that died could not record the end of its connections.
update session set ended_at = :now where ended_at is null;

-- name: list_sessions
select account, started_at, ended_at from session where :account is null or account = :account order by seq;

-- name: newest_messages
select phone, text, received_at from message where account = :account and received_at is not null
order by received_at desc, seq desc limit 20;
