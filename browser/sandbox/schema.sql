-- The sandbox's own file, apart from the database under test. Times are unix seconds.

create table if not exists account (
    id            text primary key,
    phone         text not null,        -- the number of the phone that owns the account, digits only
    name          text not null,
    seen_at       real not null,
    banned_until  real,
    restricted    integer not null default 0,   -- 1: no new chats, 2: the monthly limit on new chats is reached
    offline_until real                  -- infinity: until it is brought back online
) strict;

-- One linked browser profile. The secret is sent once, at linking; the profile keeps it as a non-extractable key.
create table if not exists device (
    id            text primary key,
    account       text not null references account,
    secret        blob not null,
    linked_at     real not null,
    incoming_from integer not null      -- a new device starts at this row of incoming
) strict;
create index if not exists device_account on device (account);

-- One row per message that reached the server; the page's own id keeps a resent one from counting twice.
create table if not exists message (
    seq           integer primary key,
    account       text not null,
    id            text not null,
    phone         text not null,
    text          text not null,
    arrived_at    real not null,
    received_at   real,                 -- null while it is held at the clock: the recipient has nothing
    unique (account, id)
) strict;
create index if not exists message_phone on message (phone);
create index if not exists message_chat on message (account, phone);

create table if not exists incoming (
    seq           integer primary key,
    account       text not null,
    phone         text not null,
    text          text not null,
    at            real not null
) strict;
create index if not exists incoming_chat on incoming (account, phone);

-- Properties of an incoming row that is not a plain text from the other side, as JSON: author, kind, quoted text.
create table if not exists incoming_extra (
    seq           integer primary key,
    extra         text not null
) strict;

-- What a number that misbehaves only once has already done.
create table if not exists spent (
    account       text not null,
    phone         text not null,
    deed          text not null,
    primary key (account, phone, deed)
) strict;

create table if not exists session (
    seq           integer primary key,
    account       text not null,
    device        text not null,
    started_at    real not null,
    ended_at      real
) strict;
create index if not exists session_account on session (account);
