-- Phones: both forms of a number, and no number of somebody else. Until now a Brazilian landline was taken for a mobile.
-- Oldest code that may run on it: 0.3.0.

create or replace function phone_forms(p_phone text) returns text[] language sql immutable as $$
    select case
        when p_phone ~ '^55[1-9]{2}9[6-9][0-9]{7}$' then array[p_phone, left(p_phone, 4) || right(p_phone, 8)]
        when p_phone ~ '^55[1-9]{2}[6-9][0-9]{7}$' then array[p_phone, left(p_phone, 4) || '9' || right(p_phone, 8)]
        when p_phone ~ '^521[0-9]{10}$' then array[p_phone, '52' || right(p_phone, 10)]
        when p_phone ~ '^52[0-9]{10}$' then array[p_phone, '521' || right(p_phone, 10)]
        when p_phone ~ '^549[0-9]{10}$' then array[p_phone, '54' || right(p_phone, 10)]
        when p_phone ~ '^54[0-9]{10}$' then array[p_phone, '549' || right(p_phone, 10)]
        when p_phone ~ '^225(01[04-9][0-3]|05[04-9][4-6]|07[04-9][7-9])[0-9]{6}$' then array[p_phone, '225' || right(p_phone, 8)]
        when p_phone ~ '^225[04-9][0-3][0-9]{6}$' then array[p_phone, '22501' || right(p_phone, 8)]
        when p_phone ~ '^225[04-9][4-6][0-9]{6}$' then array[p_phone, '22505' || right(p_phone, 8)]
        when p_phone ~ '^225[04-9][7-9][0-9]{6}$' then array[p_phone, '22507' || right(p_phone, 8)]
        when p_phone ~ '^22901[0-9]{8}$' then array[p_phone, '229' || right(p_phone, 8)]
        when p_phone ~ '^229[0-9]{8}$' then array[p_phone, '22901' || right(p_phone, 8)]
        else array[p_phone]
    end
$$;
comment on function phone_forms(text) is
    'A phone number as it was given, and the other form of it where one subscriber has two: in Brazil, Mexico, Argentina, '
    'Ivory Coast and Benin. The table and its sources are in phones.py.';
