-- Gives the table features columns of many types, and six rows with nulls, ties, quotes,
-- commas, parentheses, wildcards and letters beyond ASCII.
create type mood as enum ('happy', 'so, so', 'sad');

alter table features
    add column active boolean,
    add column tags text[],
    add column scores integer[],
    add column span int4range,
    add column profile jsonb,
    add column bio text,
    add column bio_words tsvector,
    add column seen_at timestamptz,
    add column mood mood,
    add column amount numeric(8, 2),
    add column "first, last (a.b)" text;

insert into features (
    user_id, name, email, signup_date, total_experiments, avg_experiments,
    experiments_pct, most_common_compound_id, most_common_compound_name,
    active, tags, scores, span, profile, bio, seen_at, mood, amount,
    "first, last (a.b)"
)
values
(
    1, 'Ada Lovelace', 'ada@example.com', '2024-01-01', 3, 1.5,
    0.3, 1, 'Aspirin',
    true, '{math,poetry}', '{1,2,3}', '[1,10)',
    '{"city": "London", "age": 36, "langs": ["en", "fr"], "pet": null}',
    'The fat cats write programs', '2024-01-01T12:00:00Z', 'happy', 10.50,
    'Ada, L'
),
(
    2, 'Bob "Bobby" Baker, Jr.', 'bob@example.com', '2024-01-02', 3, 1.5,
    0.3, 2, 'Caffeine',
    false, '{}', '{2,3}', '[10,20)',
    '{"city": "Paris", "age": 9, "langs": []}',
    'A fat rat', '2024-06-01T00:00:00Z', 'so, so', 10.50,
    null
),
(
    3, 'Zoë O''Neil', 'zoe@example.com', null, 1, 1.5,
    0.1, 1, 'Aspirin',
    null, '{"a,b",poetry}', '{10}', '[20,30)',
    null,
    null, null, 'sad', 0.10,
    null
),
(
    4, null, null, '2024-01-02', 0, 1.5,
    0, null, null,
    true, null, null, null,
    '{"city": "London", "age": 20}',
    'Cats and rats are impossible friends', null, null, null,
    null
),
(
    5, e'100%_sure\\', 'per%cent@example.com', '2024-03-01', 1, 1.5,
    0.1, 2, 'Caffeine',
    false, '{math}', '{1}', '[1,3)',
    '{"city": "Rio (de Janeiro)", "age": 100}',
    'Fun is possible', '2024-01-01T12:00:00.000001Z', 'happy', 99999.99,
    null
),
(
    6, 'carol (cc): 1.5', 'carol@example.com', '2024-02-29', 2, 1.5,
    0.2, 3, null,
    true, '{math,"a,b"}', '{}', 'empty',
    '{"age": "old"}',
    'Il est amusant et impossible', null, 'sad', -1.00,
    null
);

update features set bio_words = to_tsvector('english', bio);

vacuum analyze features;
