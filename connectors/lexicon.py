"""The words of the synthetic world: domains, events with their phrasings, names, everyday things. Data only.

Slots: {s} the organisation, {r} what it is, {o} the object and {u} another word for it, {p} a place, {h} a person,
{c} a cause, {n} a number with its noun, {d} a day. ``[a|b]`` is a choice between phrasings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines() if line.strip())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((a.strip(), b.strip()) for a, _, b in (line.partition("=") for line in _lines(text)))


@dataclass(frozen=True, slots=True)
class Domain:
    """A field of life: who acts in it, with what, why things happen, and what is usually said about it."""

    name: str
    roles: tuple[str, ...]
    suffixes: tuple[str, ...]
    objects: tuple[tuple[str, str], ...]
    causes: tuple[str, ...]
    asides: tuple[str, ...]
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens: how headlines put it, and how the first sentences do."""

    name: str
    titles: tuple[str, ...]
    bodies: tuple[str, ...]
    numbers: tuple[str, ...]


def _domain(name: str, roles: str, suffixes: str, objects: str, causes: str, asides: str, events: str) -> Domain:
    return Domain(
        name, _lines(roles), _words(suffixes), _pairs(objects), _lines(causes), _lines(asides), _words(events)
    )  # fmt: skip


DOMAINS: Final = (
    _domain(
        "chips", "the chipmaker\nthe semiconductor firm\nthe foundry", "Silicon Semiconductor Microsystems Logic",
        """server processor = data-centre chip
        memory module = high-bandwidth DRAM
        graphics accelerator = GPU line
        lithography scanner = wafer exposure tool
        photonic interconnect = optical link chip
        automotive microcontroller = in-car controller
        image sensor = camera silicon
        neural coprocessor = inference engine""",
        """a flaw in the voltage regulator
        a shortage of neon gas
        water rationing at its main fab
        yields far below plan
        export licence rules
        a contaminated batch of photoresist""",
        """Foundry capacity is booked out until next summer.
        Benchmarks seen by engineers point to a third less power per operation.
        Board partners had stocked up in advance.
        Wafer prices have doubled within two years.""",
        "launch recall shortage lawsuit acquisition plant layoffs results flaw delay",
    ),
    _domain(
        "software", "the software company\nthe database vendor\nthe open-source firm", "Labs Software Cloud Stack",
        """query planner = SQL optimiser
        code editor = developer IDE
        message broker = event queue
        spreadsheet add-in = office plugin
        compiler toolchain = build tools
        password manager = credential vault
        video codec = compression library
        container runtime = sandbox engine""",
        """an expired certificate
        a botched schema migration
        a typo in a routing table
        a leaked signing key
        a change of licence
        a memory corruption bug""",
        """Maintainers merged the change after months of review.
        Several hosting companies pin the older branch for now.
        A thread on the mailing list ran to four hundred messages.
        Early testers praise the documentation.""",
        "launch outage breach flaw lawsuit acquisition licence funding shutdown layoffs",
    ),
    _domain(
        "space", "the rocket company\nthe launch provider\nthe satellite operator",
        "Aerospace Orbital Launch Astronautics",
        """lunar lander = moon craft
        reusable booster = rocket first stage
        weather satellite = meteorology probe
        space station module = orbital habitat
        asteroid probe = sample-return mission
        ion thruster = electric propulsion unit
        radio telescope array = deep-sky antenna field
        cargo capsule = supply ship""",
        """a stuck oxidiser valve
        high-altitude wind shear
        a cracked turbopump blade
        a faulty star tracker
        boats in the exclusion zone
        a software timer set to the wrong epoch""",
        """Telemetry was lost seventy seconds after stage separation.
        The payload was insured for half its value.
        Amateur astronomers filmed the fragments over the desert.
        The next window opens in eleven weeks.""",
        "liftoff crash discovery delay contract funding record inquiry launch",
    ),
    _domain(
        "health", "the drugmaker\nthe biotech\nthe hospital group", "Therapeutics Pharma Biologics Health",
        """malaria vaccine = mosquito-fever jab
        insulin pump = diabetes device
        migraine tablet = headache pill
        gene therapy for blindness = retinal treatment
        blood test for sepsis = infection assay
        hip implant = artificial joint
        antibiotic nasal spray = sinus medicine
        allergy injection = pollen shot""",
        """a mix-up of dosage labels
        liver damage in older patients
        mould in the filling line
        unpublished trial data
        a broken cold chain
        a shortage of nurses""",
        """Doctors had reported the first cases in early spring.
        Patient groups call the price indefensible.
        The journal article is still under peer review.
        Regulators on two continents are looking at the file.""",
        "trial recall outbreak approval lawsuit acquisition inquiry shortage discovery price",
    ),
    _domain(
        "climate", "the weather service\nthe conservation group\nthe research institute",
        "Institute Observatory Trust Foundation",
        """coral reef = tropical reef system
        mountain glacier = alpine ice sheet
        peat bog = carbon-rich wetland
        mangrove coast = tidal forest
        permafrost slope = frozen ground
        desert aquifer = underground reservoir
        salmon river = spawning stream
        rain forest reserve = jungle sanctuary""",
        """an unusually warm winter
        illegal logging
        a drought in its fifth year
        fertiliser run-off
        a new shipping lane
        invasive beetles""",
        """Field teams have measured the site since the seventies.
        Villagers had warned of the change for years.
        Insurers are redrawing their maps.
        Satellite pictures confirm the trend.""",
        "discovery decline protest ban record campaign inquiry restoration",
    ),
    _domain(
        "banking", "the lender\nthe bank\nthe payments firm", "Bank Capital Financial Savings",
        """mortgage business = home-loan arm
        contactless card = tap-to-pay card
        pension fund = retirement scheme
        currency desk = foreign-exchange unit
        branch network = high-street offices
        trading algorithm = automated dealing program
        overdraft fee = borrowing charge
        bond portfolio = fixed-income holdings""",
        """bad loans to property developers
        a rogue dealer
        lax money-laundering checks
        a run on deposits
        mis-sold insurance
        a surprise rate decision""",
        """Shares were halted twice before noon.
        Customers queued outside from six in the morning.
        Two rating agencies put the debt under review.
        The central bank declined to comment.""",
        "fine results acquisition layoffs outage breach rescue resignation inquiry price",
    ),
    _domain(
        "football", "the club\nthe league leaders\nthe promoted side", "United Rovers Athletic Wanderers",
        """teenage striker = young forward
        veteran goalkeeper = long-serving keeper
        new stadium = rebuilt arena
        women's team = women's side
        Brazilian winger = South American wide man
        training ground = academy campus
        season ticket = annual pass
        captain = skipper""",
        """a hamstring injury
        a row over wages
        an ineligible player
        crowd trouble
        a missed penalty
        a transfer embargo""",
        """Supporters sang long after the whistle.
        The manager refused questions afterwards.
        It is the third such episode this season.
        Pundits had written the squad off in August.""",
        "match transfer resignation fine protest plant record ban",
    ),
    _domain(
        "film", "the studio\nthe streaming service\nthe distributor", "Pictures Studios Films Entertainment",
        """spy thriller = espionage drama
        animated musical = cartoon with songs
        submarine epic = deep-sea blockbuster
        courtroom series = legal drama
        vampire comedy = undead sitcom
        silent-era documentary = archive film
        western remake = cowboy reboot
        detective trilogy = sleuth saga""",
        """a dispute over final cut
        a fire on the set
        poor test screenings
        a clash of schedules
        a plagiarism claim
        a walkout of the effects crew""",
        """The trailer passed ten million views overnight.
        Critics are split down the middle.
        Extras were hired from three villages.
        The score was recorded with a forty-piece choir.""",
        "premiere delay award lawsuit casting price acquisition boycott",
    ),
    _domain(
        "music", "the label\nthe festival\nthe concert promoter", "Records Music Sound Festival",
        """farewell tour = last concert run
        double album = two-disc record
        opera production = stage work
        vinyl reissue = remastered LP
        jazz quartet = improvising foursome
        folk ballad = acoustic single
        outdoor concert = open-air show
        symphony premiere = orchestral first""",
        """a torn vocal cord
        ticket bots
        a collapsed stage roof
        an uncleared sample
        noise complaints
        an unpaid advance""",
        """Second-hand tickets changed hands at nine times the price.
        The band met at a bus stop in their teens.
        Rehearsals had been moved to a disused hangar.
        Streams of the back catalogue have tripled.""",
        "premiere delay award lawsuit accident price reunion boycott",
    ),
    _domain(
        "games", "the games studio\nthe publisher\nthe console maker", "Games Interactive Play Arcade",
        """handheld console = portable gaming machine
        dungeon crawler = roguelike game
        racing simulator = driving title
        farming sequel = cosy harvest game
        virtual-reality headset = VR goggles
        strategy remaster = tactics rerelease
        loot box system = paid mystery crates
        chess app = board-game client""",
        """a save-file bug
        overheating batteries
        crunch at the studio
        cheating in ranked play
        an age-rating dispute
        music rights that lapsed""",
        """Speedrunners found a way round the last boss within hours.
        Pre-orders sold out in nine minutes.
        The beta drew half a million players.
        Modders have already restored the missing levels.""",
        "launch delay recall shutdown breach layoffs award acquisition price",
    ),
    _domain(
        "cars", "the carmaker\nthe truck manufacturer\nthe e-bike maker", "Motors Automotive Mobility Wheels",
        """electric pickup = battery truck
        delivery van = parcel vehicle
        solid-state battery = next-generation cell
        driver-assist software = lane-keeping system
        hydrogen bus = fuel-cell coach
        city scooter = urban moped
        airbag inflator = crash cushion part
        charging network = plug-in stations""",
        """brakes that fail in the cold
        a fire in the battery pack
        a strike at a parts supplier
        falsified emission tests
        a steering sensor defect
        a sudden tariff""",
        """Dealers were told to keep the vehicles in the yard.
        Owners share videos of the fault.
        A teardown found parts from four continents.
        Waiting lists run to fourteen months.""",
        "launch recall strike plant lawsuit results crash layoffs record delay",
    ),
    _domain(
        "aviation", "the airline\nthe airport operator\nthe aircraft builder", "Airways Air Airlines Aviation",
        """long-haul route = intercontinental service
        turboprop fleet = propeller aircraft
        baggage system = luggage sorting
        wide-body jet = twin-aisle plane
        pilot roster = cockpit schedule
        loyalty scheme = frequent-flyer programme
        second runway = additional landing strip
        cabin crew = flight attendants""",
        """a bird strike
        a frozen fuel line
        volcanic ash
        a drone over the apron
        a failed radar upgrade
        unpaid overtime""",
        """Passengers spent the night on camp beds.
        The flight recorder has been sent to a laboratory.
        Slots at the hub are worth millions.
        Rail operators put on extra trains.""",
        "strike crash outage acquisition results fine plant launch rescue record",
    ),
    _domain(
        "food", "the brewer\nthe supermarket chain\nthe dairy group", "Foods Kitchen Farms Brewing",
        """oat yoghurt = plant-based dessert
        frozen dumplings = ready-made parcels
        alcohol-free stout = dry dark beer
        infant formula = baby milk powder
        olive oil = pressed oil
        breakfast cereal = morning flakes
        smoked trout = cured fish
        chocolate bar = cocoa snack""",
        """glass splinters
        a salmonella finding
        a poor cocoa harvest
        undeclared nuts
        relabelled expiry dates
        a frost in the orchards""",
        """Shelves were cleared before opening time.
        Small growers see none of the extra money.
        A hotline has been set up for customers.
        The recipe dates from the twenties.""",
        "recall shortage price strike launch acquisition boycott fine plant",
    ),
    _domain(
        "energy", "the utility\nthe grid operator\nthe wind developer", "Energy Power Grid Renewables",
        """offshore wind farm = sea turbines
        tidal turbine = current generator
        gas pipeline = methane line
        pumped-storage dam = hydro battery
        heat pump scheme = home-heating programme
        undersea cable = power interconnector
        reactor restart = nuclear comeback
        solar roof = photovoltaic tiles""",
        """a transformer fire
        corroded welds
        a storm surge
        a planning objection
        hackers in the control room
        a collapsed crane""",
        """Backup generators kept the hospital running.
        Wholesale prices briefly turned negative.
        Fishermen fear for their grounds.
        The tender drew seven bidders.""",
        "outage accident plant protest price acquisition approval delay contract inquiry",
    ),
    _domain(
        "rail", "the railway\nthe metro operator\nthe tram builder", "Rail Transit Railways Lines",
        """night train = sleeper service
        signalling system = track control
        mountain tunnel = alpine bore
        ticket app = fare software
        freight corridor = goods line
        driverless metro = automated underground
        station roof = terminus canopy
        level crossing = road-rail junction""",
        """a landslide
        stolen copper cable
        buckled rails
        a driver shortage
        asbestos in the ceiling
        a misread signal""",
        """Replacement buses run every twenty minutes.
        The line carries ninety thousand commuters a day.
        Engineers worked through two nights.
        Local mayors demand compensation.""",
        "strike accident delay plant outage price contract approval record inquiry",
    ),
    _domain(
        "politics", "the ministry\nthe regional government\nthe opposition", "Ministry Assembly Council Party",
        """property tax = land levy
        rent cap = tenancy limit
        voting machines = electronic ballots
        border checkpoint = frontier post
        school meals bill = canteen law
        fishing quota = catch limit
        broadband plan = fibre programme
        census = population count""",
        """a leaked memo
        an expenses scandal
        a split in the coalition
        a court ruling
        forged signatures
        a late-night amendment""",
        """The vote had been postponed twice.
        Backbenchers threaten to rebel.
        A poll shows the country evenly divided.
        The speech lasted four hours.""",
        "vote resignation protest inquiry ban campaign treaty leak",
    ),
    _domain(
        "education", "the university\nthe school board\nthe exam authority", "University College Academy School",
        """entrance exam = admission test
        student housing = dormitory places
        maths curriculum = numeracy syllabus
        tuition fee = study charge
        rare manuscript collection = historic library
        medical faculty = doctors' school
        online degree = distance diploma
        chess club = board-game society""",
        """leaked question papers
        a donation with strings
        a flooded archive
        falsified research
        a shortage of teachers
        a grading algorithm""",
        """Parents learned of it from a text message.
        Alumni have written an open letter.
        Lectures moved to a cinema.
        The dean promised a report by autumn.""",
        "protest leak inquiry resignation strike acquisition lawsuit campaign record",
    ),
    _domain(
        "archaeology", "the museum\nthe excavation team\nthe heritage agency", "Museum Heritage Gallery Society",
        """bronze-age boat = ancient vessel
        mosaic floor = tiled pavement
        royal tomb = burial chamber
        medieval well = old shaft
        cave painting = rock art
        sunken galleon = shipwreck
        amber hoard = resin treasure
        clay tablets = cuneiform archive""",
        """a dispute between heirs
        a metal detectorist's tip
        looting at the site
        falling water levels
        a forged provenance
        roadworks""",
        """Carbon dating puts it nine centuries earlier than thought.
        The find is kept in a tank of distilled water.
        Schoolchildren helped sieve the soil.
        Three countries claim ownership.""",
        "discovery theft inquiry restoration lawsuit record protest",
    ),
)  # fmt: skip


def _event(name: str, titles: str, bodies: str, numbers: str) -> Event:
    return Event(name, _lines(titles), _lines(bodies), _lines(numbers))


EVENTS: Final = {
    event.name: event
    for event in (
        _event(
            "launch",
            """{s} [unveils|launches|introduces|presents] {o}
            {s} [takes the wraps off|shows] its [long-awaited|new] {u}
            [Hands-on|First look]: the {o} from {s}
            {s}'s {o} goes on sale {d}, with {n}
            New {u} by {s} [promises|offers] {n}
            {h} of {s}: why we built the {o}
            Is {s}'s {u} worth [the money|the wait]?""",
            """{s} has presented its {o} in {p}, with {n}.
            The {u} goes on sale {d}, {r} said.
            {h}, who leads the project at {s}, called the {o} a fresh start.""",
            "{i} patents\n{i} design awards\n{i} variants\n{i} launch partners",
        ),
        _event(
            "recall",
            """{s} recalls {o} [over|after|because of] {c}
            {c}: {s} [calls back|withdraws] {n}
            [Warning|Safety alert] for {u} from {s}
            Stop using {s}'s {o}, [authorities|inspectors] in {p} say
            {s} [offers refunds|pays buyers back] after {o} recall
            How {c} slipped past {s}: the {u} recall explained
            {n} affected as {s} pulls {o}""",
            """{s} is recalling its {o} because of {c}; {n} are affected.
            Anyone who owns the {u} should stop using it, {r} said in {p}.
            The fault, {c}, was found by an inspector in {p}.""",
            "{i},000 units\n{i},500 customers\n{i} injuries\n{i},000 households",
        ),
        _event(
            "shortage",
            """{s} [warns of|fears] shortage of {o}
            {u} [run short|hard to find] as {c} hits {s}
            [Empty shelves|Waiting lists]: where is the {o}?
            {s} rations {o} [over|because of] {c}
            No {o} before {d}, {s} [tells|says to] buyers
            {c} leaves {s} without {u}
            Shortage of {u}: {n} wait for {s}""",
            """{s} can no longer deliver its {o}; {n} are waiting.
            The reason is {c}, {r} said, and relief is not expected before {d}.
            Retailers in {p} limit the {u} to one per customer.""",
            "{i},000 orders\n{i} clinics\n{i} factories\n{i},000 buyers",
        ),
        _event(
            "lawsuit",
            """{h} sues {s} over {o}
            {s} [taken to court|faces lawsuit] in {p} over {c}
            {p} court hears {s} {o} case
            Judge [rejects|allows] {h} claim against {s} [about|over] {u}
            {s} [settles|loses] {u} suit with {n}
            What {h} v. {s} means for the {o}
            {c}: plaintiffs in {p} want {n} from {s}""",
            """A court in {p} has heard the case of {h} against {s} over the {o}.
            The suit turns on {c}; {r} denies everything.
            Damages of {n} are at stake, and the {u} may have to be withdrawn.""",
            "{i} million in damages\n{i} million crowns\n{i} plaintiffs\n{i} years of interest",
        ),
        _event(
            "acquisition",
            """{s} [buys|acquires|to take over] {q} for {n}
            {q} [sold to|swallowed by] {s}
            {n}: {s} [seals|agrees] deal for {q}
            [Regulators|Watchdogs] in {p} look at {s} takeover of {q}
            {q} shareholders [back|approve] sale to {s}
            Why {s} wants {q}'s {o}
            {h}: the {s}–{q} merger is [a mistake|about the {u}]""",
            """{s} has agreed to buy {q} for {n}.
            The deal gives {r} access to the {o} of {q}, which is based in {p}.
            {h} stays on as head of the {u} business.""",
            "{i} million\n{i} billion crowns\n{i}0 million in shares\n{i} million in cash",
        ),
        _event(
            "plant",
            """{s} to build {o} site in {p}
            {p} [wins|lands] {s} project with {n}
            [Ground broken|Cranes up] in {p} for {s}
            {s} [picks|chooses] {p} for {u} works
            Residents of {p} [split|divided] over {s} and its {u}
            {n} for {p}: {s} [expands|invests] in {o}
            {s}'s {p} gamble on the {u}""",
            """{s} is going to build in {p}, bringing {n}.
            The site is meant for the {o}, and work begins {d}.
            {h}, the mayor of {p}, spoke of a great day; neighbours of {r} are less sure.""",
            "{i}00 jobs\n{i} hectares of halls\n{i},000 apprenticeships\n{i}0 million of investment",
        ),
        _event(
            "layoffs",
            """{s} [cuts|lays off] {n}
            [Job cuts|Redundancies] at {s}: {o} team [hit hardest|dissolved]
            {s} [shrinks|winds down] {u} unit, {n} affected
            {h} tells {s} staff: {n} must go
            Inside {s}: {n} and the end of the {u}
            {p} office of {s} to close, {n} gone
            After {c}, {s} [sheds|drops] staff""",
            """{s} is cutting {n}, most of them in {p}.
            In a message to employees, {h} named {c} as the reason.
            The {o} group at {r} is dissolved {d}.""",
            "{i}0 percent of staff\n{i},200 positions\n{i}00 employees\n{i}40 engineers",
        ),
        _event(
            "results",
            """{s} [beats|tops] forecasts [thanks to|on] {o}
            {s} [profit|revenue] [slumps|falls] after {c}
            {s} quarterly [results|numbers]: {n}
            {u} [lifts|drags on] {s} earnings
            [Shares|Stock] of {s} [jump|slide] on {n} and {u}
            {h} [defends|explains] {s} outlook after {c}
            What {s}'s quarter says about the {u} market""",
            """{s} reported {n} for the quarter.
            The {o} made the difference, {h} told analysts in {p}.
            {c} weighs on the outlook, {r} added.""",
            "a profit of {i} million\na loss of {i} million\nsales up {i} percent\norders down {i} percent",
        ),
        _event(
            "flaw",
            """[Researchers|Experts] find hole in {s} {o}
            {s} {o} [vulnerable|exposed]: patch now
            {h} [shows|demonstrates] attack on {s}'s {u}
            [Emergency|Urgent] update for {u} after {c}
            {c}: how one bug put {n} at risk
            {s} [fixes|closes] hole in {o} after {n}
            The {u} bug in {s} products, [explained|step by step]""",
            """A flaw in the {o} of {s} lets attackers in; {n} are exposed.
            The cause is {c}, said {h}, who found it.
            An update closes the hole in the {u}, and {r} urges everyone to install it.""",
            "{i} million devices\n{i},000 servers\n{i} days of silence\n{i}00 companies",
        ),
        _event(
            "delay",
            """{s} [delays|postpones|pushes back] {o} [over|after] {c}
            {o} [not before|slips to] {d}, says {s}
            {c} [holds up|stalls] {s}'s {u}
            {s} misses date for {u} [again|once more]
            {h} apologises for the {o}: {s} needs {n} more
            Why the {s} {o} is [late|stuck]
            Another {n}: the {u} that {s} cannot finish""",
            """{s} has put off its {o} by {n}.
            {h} blamed {c} and named {d} as the new date.
            It is not the first time that {r} moves the {u}.""",
            "{i} weeks\n{i} months\n{i} quarters\n{i} rounds of tests",
        ),
        _event(
            "outage",
            """{s} [down|offline]: {n} affected
            [Outage|Disruption] at {s} [traced to|caused by] {c}
            {s} {o} [back|restored] after {n} of failure
            {p} hit hardest by {s} [outage|failure]
            What went wrong at {s}: {c}
            {s} [says sorry|apologises] for {u} breakdown
            {u} out of service as {s} [fights|struggles with] {c}""",
            """The {o} of {s} failed early {d}; {n} were affected.
            {c} had set off a chain of faults, {r} wrote in its report.
            In {p} the {u} came back only at night.""",
            "{i} hours\n{i},000 users\n{i} million accounts\n{i} districts",
        ),
        _event(
            "breach",
            """[Hackers|Intruders] steal data of {n} from {s}
            {s} [breach|data leak]: {n} exposed
            {s} [confirms|admits] break-in through {o}
            {u} [logs|backups] of {s} offered for sale
            {c} opened the door to {s}, investigators say
            Were you in the {s} leak? [What to do now|How to check]
            {h} [resigns|under fire] after {s} {u} hack""",
            """Attackers took records of {n} from {s}.
            They came in through the {o}, helped by {c}, according to {h}.
            {r} has told the police in {p} and shut the {u} down.""",
            "{i} million customers\n{i}00,000 patients\n{i},000 employees\n{i} million passwords",
        ),
        _event(
            "licence",
            """{s} [changes|tightens] licence of {o}
            {u} no longer open source, {s} [says|decides]
            [Developers|Contributors] fork {s}'s {o}
            {h}: {s} licence change is [a betrayal|understandable]
            Foundation in {p} [adopts|hosts] fork of {s} {u}
            {n} sign letter against {s} relicensing
            After {s} [backlash|outcry], {o} gets new terms""",
            """{s} puts its {o} under a new licence {d}.
            {h} and {n} answered with a fork, looked after in {p}.
            Cloud providers lived off the {u} without giving back, {r} argues.""",
            "{i}00 contributors\n{i} maintainers\n{i},000 developers\n{i} companies",
        ),
        _event(
            "funding",
            """{s} raises {n} for {o}
            {n}: investors [back|bet on] {s}
            {p} start-up {s} [secures|closes] round for {u}
            {s} [now worth|valued at] {n}
            {h} [leads|joins] round in {s}
            With {n}, {s} wants to [scale|finish] its {u}
            Who is behind {s} and its {o}?""",
            """{s} has raised {n} from investors around {h}.
            The money goes into the {o} and an office in {p}.
            A first version of the {u} is due {d}, {r} says.""",
            "{i} million\n{i}5 million crowns\n{i}0 million\na {i}00 million valuation",
        ),
        _event(
            "shutdown",
            """{s} [shuts down|discontinues] {o}
            [Farewell|Goodbye] to {s}'s {u}
            {u} by {s} goes dark {d}
            {n} must [move|find alternatives] as {s} ends {o}
            Volunteers [save|archive] {s} {u} before the end
            {h} on why {s} [killed|gave up] the {o}
            {c} was the last straw: {s} closes {u}""",
            """{s} ends its {o} {d}; {n} have to look for something else.
            {h} cited {c}.
            Volunteers in {p} are copying the {u} while {r} still runs it.""",
            "{i} million users\n{i},000 subscribers\n{i} communities\n{i}00,000 pages",
        ),
        _event(
            "liftoff",
            """{s} [lifts off|launches] with {o}
            {o} [reaches orbit|on its way] after {s} launch
            Watch: {s} sends {u} [into space|skyward] from {p}
            {s} [nails|succeeds with] flight number {i} carrying {u}
            {h} aboard as {s} [flies|sends] {o}
            From {p} to orbit: {s}'s [perfect|smooth] launch
            After {c}, {s} [finally flies|gets off the ground]""",
            """A rocket of {s} left {p} {d} with the {o} on board.
            Earlier attempts had failed because of {c}.
            The {u} unfolded as planned, and {h} thanked the team of {r}.""",
            "{i} satellites\n{i} experiments\n{i} minutes\n{i} orbits",
        ),
        _event(
            "crash",
            """{s} {o} [crashes|lost] near {p}
            {c} [behind|blamed for] {s} crash
            [Wreckage|Debris] of {s} {u} found near {p}
            {n} after {s} {o} accident
            [Investigators|Experts] at crash site in {p}
            {s} [grounds|halts] {u} after loss at {p}
            {h}: what we know about the {s} [disaster|crash]""",
            """The {o} of {s} came down near {p}; there were {n}.
            {c} is thought to be the cause, said investigator {h}.
            {r} has stopped all operations with the {u}.""",
            "{i} injured\n{i} survivors\n{i} witnesses\n{i} search teams",
        ),
        _event(
            "discovery",
            """{s} [finds|discovers] {o} near {p}
            [Unexpected|Surprising] {u} found by {s} team
            {h} of {s} on the {o} [find|discovery]: {n}
            {n}: what the {u} of {p} tells us
            {p} {o} is [older|stranger] than thought, says {s}
            How {c} led to the {u} [find|discovery]
            [Scientists|Scholars] puzzle over {p} {o}""",
            """Researchers of {s} have come upon a {o} near {p}.
            It was {c} that led {h} to it.
            The {u} shows {n}, which {r} calls unique.""",
            "{i} layers\n{i} unknown species\n{i} inscriptions\n{i},000 years of history",
        ),
        _event(
            "contract",
            """{s} [wins|lands] {o} contract worth {n}
            {p} [awards|gives] {u} order to {s}
            {n} for {s}: {o} deal [signed|agreed]
            Rival [contests|challenges] {s}'s {u} award
            {h} [signs|seals] {o} agreement with {s}
            {s} beats {q} to {p} {u} tender
            What {p} [gets|pays] for the {s} deal""",
            """{p} has given {s} an order worth {n} for the {o}.
            {q} came second and may contest it.
            Delivery of the {u} begins {d}, {h} said for {r}.""",
            "{i} million\n{i}0 million crowns\n{i} years\n{i} billion",
        ),
        _event(
            "record",
            """{s} [sets|breaks] record with {o}
            [Record|Best ever]: {n} for {s}
            {s}'s {u} [fastest|biggest] in history
            {h} of {s} [breaks|beats] {u} record at {p}
            Never before: {s} {o} manages {n}
            {p} cheers as {s} {u} [tops|passes] {n}
            How {s} got the {o} to {n}""",
            """{s} has set a record in {p}: {n} with its {o}.
            {h} had prepared the attempt for years, despite {c}.
            The old mark of the {u} had stood since the eighties, {r} said.""",
            "{i}00 kilometres\n{i} hours without a break\n{i} in a row\n{i},000 visitors",
        ),
        _event(
            "inquiry",
            """[Inquiry|Probe] into {s} [over|about] {c}
            [Prosecutors|Police] search {s} in {p} over {o}
            {h} [grilled|questioned] about {s} and {c}
            {s} {o} [under investigation|being examined]
            Report: {s} [knew|ignored warnings] about {c}
            {n} [seized|examined] in {s} {u} inquiry
            Whistle-blower: how {s} hid {c}""",
            """Investigators in {p} are looking into {s} and {c}.
            They took away {n} concerning the {o}.
            {h} denies wrongdoing; {r} wants to cooperate in the {u} affair.""",
            "{i} boxes of files\n{i} hard disks\n{i},000 e-mails\n{i} witnesses",
        ),
        _event(
            "trial",
            """{s} {o} [works|shows promise] in [late-stage|large] trial
            {n}: {s} reports [strong|mixed] {u} data
            {s} [halts|stops] study of {o} after {c}
            [Patients|Volunteers] in {p} tested {s}'s {u}
            {h}: the {s} results are [a milestone|no miracle]
            Shares [leap|tumble] on {s} {u} study
            What the {o} trial of {s} [did and did not show|found]""",
            """{s} has published trial results of its {o}: {n}.
            Volunteers in {p} took part for two years, said {h}.
            Side effects, among them {c}, were rare with the {u}, {r} reports.""",
            "{i}0 percent fewer cases\n{i},000 participants\n{i} deaths avoided\n{i}5 percent efficacy",
        ),
        _event(
            "outbreak",
            """Outbreak in {p} [traced to|linked with] {s}
            {n} ill in {p}: {s} [suspected|under scrutiny]
            {p} [hospitals|clinics] fill up after {s} {o} infections
            {s} {u} [spreads|passed on] germ, officials say
            [Health officials|Doctors] battle {p} outbreak
            {h}: {c} made the {p} outbreak worse
            {p} outbreak [over|contained] after {n}""",
            """{n} have fallen ill in {p}, and the trail leads to {s}.
            {c} may have helped the germ along, said doctor {h}.
            The {o} is being withdrawn and {r} has closed the {u} line.""",
            "{i}0 people\n{i} children\n{i}00 guests\n{i} wards",
        ),
        _event(
            "approval",
            """{s} [gets|wins] approval for {o}
            [Green light|Go-ahead] for {u} of {s}
            {o} by {s} [cleared|approved] in {p}
            [Regulators|Authorities] [back|permit] {s} {u} with {n}
            {h} [criticises|praises] approval of the {s} {o}
            {s} may [start|sell] {u} {d}
            After {n}, {s}'s {o} is [allowed|legal]""",
            """The authority in {p} has approved the {o} of {s} with {n}.
            Objections because of {c} were dismissed.
            {r} may begin with the {u} {d}; {h} spoke of a careful decision.""",
            "{i} conditions\n{i} years of review\n{i} hearings\n{i} dissenting votes",
        ),
        _event(
            "price",
            """{s} [raises|puts up] price of {o} by {n}
            {o} [dearer|more expensive] from {d}, says {s}
            {s} customers [angry|leave] over {u} price
            {n}: {s} blames {c} for {u} increase
            [Minister|Consumer group] attacks {s} {o} pricing
            {h}: what is behind {s}'s {u} price rise
            {s} [gives in|backs down] on {o} increase""",
            """{s} wants {n} more for its {o} from {d} on.
            {r} points to {c}; a consumer group in {p} calls that an excuse.
            {h} expects others to follow with the {u}.""",
            "{i} percent\n{i}5 percent\n{i} crowns\na factor of {i}",
        ),
        _event(
            "decline",
            """{p} {o} [shrinks|dying], {s} warns
            {s}: {n} of {u} [lost|gone]
            {c} [destroys|eats away] {o} at {p}
            [Alarming|Bleak] report on the {u} of {p}
            {h} of {s}: we are losing the {o}
            {n} less: the {p} {u} in [numbers|pictures]
            Can the {o} of {p} [still be saved|recover]?""",
            """The {o} at {p} has lost {n}, {s} reports.
            {c} is to blame, says {h}.
            Without help the {u} will be gone within a generation, {r} warns.""",
            "{i}0 percent of its area\n{i} hectares a year\n{i} metres\n{i} of ten nests",
        ),
        _event(
            "protest",
            """[Thousands|Crowds] protest in {p} against {s}
            {s} {o} [sparks|meets] protest in {p}
            {n} [block|occupy] {s} site over {u}
            {h} [arrested|speaks] at {p} rally against {s}
            {p}: protest over {c} [turns ugly|grows]
            {s} [talks to|ignores] {p} protesters
            Why {p} is [marching|angry] about the {o}""",
            """{n} took to the streets of {p} because of the {o}.
            They accuse {s} of {c}.
            {h} called for more marches {d}; {r} offers talks about the {u}.""",
            "{i},000 people\n{i}00 tractors\n{i} groups\n{i}0,000 signatures",
        ),
        _event(
            "ban",
            """{p} [bans|outlaws] {o} of {s}
            Ban on {u}: {s} [appeals|protests]
            {s} [barred|excluded] over {c}
            {c} [leads to|brings] {n} ban for {s}
            {h} [defends|drafted] {p} {o} ban
            What the {u} ban means for {s}
            {s} [fights|challenges] {p} ban on {o}""",
            """{p} has banned the {o} of {s} for {n}.
            The reason given is {c}.
            {r} appeals; {h} thinks that the {u} will be back {d}.""",
            "{i} years\n{i} months\n{i} matches\n{i} seasons",
        ),
        _event(
            "campaign",
            """{s} [starts|opens] campaign for {o}
            {h} [fronts|joins] {s} push on {u}
            {n} back {s} {o} [appeal|petition]
            {p} is [centre|start] of {s} campaign against {c}
            {s} wants {n} for the {u}
            [Posters|Adverts] of {s} on {o} [divide|amuse] {p}
            Does the {s} {u} campaign [work|help]?""",
            """{s} has begun a campaign for the {o} in {p}.
            {h} gives it a face, and {n} have signed.
            {r} wants a law about the {u} by {d}, and an end to {c}.""",
            "{i},000 signatures\n{i} towns\n{i} celebrities\n{i} million crowns",
        ),
        _event(
            "restoration",
            """{s} [restores|brings back] {o} at {p}
            {p} {u} [reopens|returns] after {n}
            {n}: how {s} [saved|rebuilt] the {o}
            {h} [leads|explains] {p} restoration
            [Back to life|Good news]: the {u} of {p}
            {s} [repairs|heals] what {c} destroyed
            Visitors [flock|return] to restored {o} in {p}""",
            """After {n}, {s} has restored the {o} at {p}.
            {c} had nearly destroyed it.
            {h}, who led the work on the {u}, calls it a gift; {r} expects many visitors {d}.""",
            "{i} years of work\n{i} volunteers\n{i} million crowns\n{i}0 tonnes of stone",
        ),
        _event(
            "fine",
            """{s} [fined|must pay] {n} over {c}
            {n} [penalty|fine] for {s}
            {p} [watchdog|authority] punishes {s} for {c}
            {s} [accepts|appeals] record fine over {o} in {p}
            {h} [welcomes|attacks] {s} penalty of {n}
            {c} costs {s} {n}
            The {u} affair: {s} [pays|punished]""",
            """The authority in {p} fines {s} {n} because of {c}.
            The case began with the {o}.
            {h} calls the sum proportionate; {r} may appeal in the {u} matter.""",
            "{i} million\n{i}0 million crowns\n{i} percent of turnover\n{i}00,000",
        ),
        _event(
            "rescue",
            """{s} [rescued|saved] with {n}
            [Government|State] [steps in|bails out] {s}
            {n} to [keep|save] {s} afloat after {c}
            {q} [in talks|ready] to rescue {s}
            {h}: {s} rescue is [without alternative|wrong]
            {s} {o} [safe|continues] after {p} deal
            Night talks in {p} [end with|bring] {s} rescue""",
            """After a night of talks in {p}, {s} gets {n}.
            {c} had brought {r} to the brink.
            {h} promised that the {o} goes on; the {u} may be sold to {q}.""",
            "{i} billion\n{i}00 million in guarantees\n{i}0 million\n{i} million in loans",
        ),
        _event(
            "resignation",
            """{s} chief {h} [resigns|steps down]
            {h} [leaves|quits] {s} over {c}
            {h} [out|gone]: who will lead {s} now?
            {c} [topples|brings down] {s} head {h}
            {s} [looks for|names] successor to {h}
            The fall of {h}, from {o} to {c}
            {s} without {h}: what becomes of the {u}?""",
            """{h} is leaving {s} because of {c}.
            The decision was made in {p} {d}.
            Under {h}, {r} had staked everything on the {o}; the {u} is now in doubt.""",
            "{i} years\n{i} months\n{i} candidates\n{i} board members",
        ),
        _event(
            "match",
            """{s} [beat|edge] {q} {g}–1 in {p}
            {s} v {q}: {o} [decides|turns] match
            [Drama|Thriller] in {p} as {s} [sink|stun] {q}
            {q} [crash out|go down] to {s}
            {h} [double|late goal] sends {s} through
            {c} overshadows {s} win over {q}
            [Player ratings|Five things we learned]: {s} against {q}""",
            """{s} have beaten {q} in {p}, with {h} scoring late.
            The {o} was everywhere, in spite of {c}.
            {r} meet the next opponents {d}; the {u} may be rested.""",
            "{i} goals\n{i} corners\n{i} bookings\n{i},000 spectators",
        ),
        _event(
            "transfer",
            """{s} [sign|land] {h} from {q} for {n}
            {h} [joins|moves to] {s}
            {h} deal: {s} [pay|agree] {n}
            {q} [confirm|regret] {h} departure
            [Medical|Photo shoot] done: {h} is a {s} player
            Why {s} need {h} beside their {o}
            {h} and {s}: {u} [dream|risk] after {c}""",
            """{h} moves from {q} to {s} for {n}.
            The medical took place in {p} {d}.
            Beside the {o} he is to help {r} forget {c}.""",
            "{i} million\n{i}5 million crowns\n{i} million and a player\n{i} million over three years",
        ),
        _event(
            "premiere",
            """{s} {o} by {h} [opens|premieres] in {p}
            Review: {h}'s {o} is [a triumph|a muddle]
            [Standing ovation|Boos] for {u} of {h} in {p}
            {h}: how I made the {o} for {s}
            {s} [celebrates|launches] {u} with {n}
            [Stars|Crowds] at {p} for {h} {o} premiere
            {n} and {c}: the making of {h}'s {u}""",
            """The {o} by {h} has had its first night in {p}, with {n}.
            {s} had believed in it in spite of {c}.
            {r} takes the {u} on the road {d}.""",
            "{i} minutes of applause\n{i},000 guests\n{i} curtain calls\n{i} sold-out nights",
        ),
        _event(
            "award",
            """{h} [wins|takes] prize for {s} {o}
            {s} {u} [named|voted] best of the year
            {p} award goes to {h}'s {o}
            {n} for {s}: {u} [sweeps|dominates] awards
            [Surprise|Upset] in {p}: {h} beats favourites
            {h} [dedicates|turns down] {p} prize
            Why {s}'s {o} [deserved|should not have got] the prize""",
            """{h} has received the {p} prize for the {o} made with {s}.
            The jury praised {n}.
            {r} now brings the {u} back {d}; {c} was not mentioned.""",
            "{i} trophies\n{i} nominations\n{i} jury votes\n{i},000 in prize money",
        ),
        _event(
            "casting",
            """{h} [cast|to star] in {s} {o}
            {s} [finds|picks] lead for {u}: {h}
            {h} [replaces|takes over from] star of {s} {o}
            Fans [cheer|object] as {h} joins {u}
            {s} [confirms|denies] {h} in {o}
            {h} [trains|learns] for {n} before {s} shoot
            From {p} to lead: {h} in the {u}""",
            """{h} plays the lead in the {o} of {s}.
            Shooting begins in {p} {d} after {n} of preparation.
            {c} had cost {r} the first choice for the {u}.""",
            "{i} months\n{i} weeks\n{i} accents\n{i} auditions",
        ),
        _event(
            "boycott",
            """Boycott of {s} [grows|spreads] over {c}
            {h} [calls for|joins] boycott of {s} {o}
            {n} [drop|avoid] {s} after {c}
            {p} [shops|venues] take {s} {u} off the list
            {s} [apologises|digs in] over {c} as {u} sales fall
            Does the boycott of the {o} [hurt|matter to] {s}?
            {c}: why {p} no longer wants {s}'s {u}""",
            """The boycott of {s} because of {c} is growing: {n} take part.
            {h} began it in {p}.
            Sales of the {o} are down; {r} asks for patience with the {u}.""",
            "{i},000 customers\n{i} artists\n{i}00 shops\n{i} towns",
        ),
        _event(
            "accident",
            """[Accident|Explosion] at {s} {o} in {p}
            {n} after {s} {u} accident
            {c} [caused|led to] {p} accident, {s} says
            [Rescuers|Firefighters] at {s} site in {p}
            {s} [closes|stops] {o} after {p} accident
            {h}: I was there when the {u} [failed|gave way]
            {p} [mourns|asks why] after {s} tragedy""",
            """An accident at the {o} of {s} in {p} has left {n}.
            {c} is given as the cause.
            {h}, an eyewitness, spoke of a bang; {r} keeps the {u} closed.""",
            "{i} hurt\n{i} in hospital\n{i} missing\n{i} evacuated streets",
        ),
        _event(
            "reunion",
            """{h} and {s}: [reunion|comeback] after {n}
            [Back together|Reunited]: {h} plays {p}
            {s} [announces|books] {h} {o} in {p}
            Tickets for {h} {u} [gone|sold out] in {i} minutes
            {h} [explains|denies] feud over {c}
            {n} later: {h} returns with {o}
            What to expect from {h}'s {p} [show|night]""",
            """After {n}, {h} returns to the stage in {p}.
            {s} has put the {o} together in secret.
            {c} had driven the group apart; {r} sells the last seats for the {u} {d}.""",
            "{i} years\n{i}5 years\n{i} albums\n{i} lawsuits",
        ),
        _event(
            "strike",
            """[Strike|Walkout] at {s}: {n} [stay home|down tools]
            {s} workers [strike|walk out] over {c}
            {o} [stands still|stops] as {s} staff strike
            {p} [hit|paralysed] by {s} strike over {c}
            {s} and union [agree|end talks] on {n} as {u} [rots|waits]
            {h}: why we at {s} [strike|fight] against {c}
            Strike at {s} [enters|goes into] second week, {u} idle in {p}""",
            """{n} at {s} have stopped work because of {c}.
            In {p} the {o} stands still.
            {h} of the union wants an offer by {d}; {r} has moved the {u} elsewhere.""",
            "{i},000 workers\n{i} shifts\n{i}00 drivers\n{i} percent more pay",
        ),
        _event(
            "vote",
            """{p} votes on {s} {o}: {n}
            {o} [passes|fails]: setback for {h} [and|of] {s}
            {n} decide {p} {u} vote
            {s} [wins|loses] {o} vote in {p}
            {h} [concedes|celebrates] after {u} ballot
            Exit poll: {p} [backs|rejects] {o}
            What the {p} {u} result means for {s}""",
            """{p} has voted on the {o}, and {n} made the difference.
            {s} under {h} had campaigned for months.
            {c} decided many minds; {r} must now live with the {u}.""",
            "{i} votes\n{i},000 ballots\n{i} percent\n{i} abstentions",
        ),
        _event(
            "treaty",
            """{s} [signs|agrees] {o} pact in {p}
            [Deal|Accord] on {u} after {n} in {p}
            {h} [brokers|hails] {p} accord
            {s} [walks out of|returns to] {o} talks
            {p} accord: winners and losers of the {u} deal
            {c} nearly sank {p} {o} talks
            {s} [ratifies|debates] {u} treaty {d}""",
            """After {n} of talks in {p}, {s} has signed an accord on the {o}.
            {c} had nearly ended them.
            {h} praised all sides; {r} ratifies the {u} text {d}.""",
            "{i} nights\n{i} rounds\n{i} years\n{i} drafts",
        ),
        _event(
            "leak",
            """Leaked: {s} plans for {o}
            {s} [papers|documents] reveal {c}
            {h} [admits|denies] {s} leak
            [Source|Insider]: {s} {u} was never safe
            {n} [leaked|published] from {s}
            {p} police [hunt|question] {s} leaker
            What the {s} papers say about {u} and {c}""",
            """Papers of {s} about the {o} have become public: {n}.
            They speak of {c}.
            {h} is looking for the source in {p}; {r} calls the {u} plans a draft.""",
            "{i}00 pages\n{i} recordings\n{i},000 messages\n{i} minutes of tape",
        ),
        _event(
            "theft",
            """[Thieves|Burglars] take {o} from {s}
            {s} {u} [stolen|gone]: {n} missing
            [Daring|Silent] heist at {s} in {p}
            {o} of {s} [recovered|turns up] in {p}
            {h} [arrested|suspected] over {s} theft
            How {c} helped the {s} thieves
            {n} reward for {p} {u}""",
            """Thieves have taken the {o} from {s} in {p}.
            {c} may have made it easy.
            {h} of the police offers {n} as a reward; {r} fears for the {u}.""",
            "{i},000 crowns\n{i} pieces\n{i} minutes\n{i} cameras",
        ),
    )
}

# -- names -------------------------------------------------------------------------------------------------------------

NAME_HEADS: Final = _words(
    """Bar Bel Bor Bran Cal Cass Cor Dal Dor Drav Elm Fen Fjor Gal Garr Hal Hest Ilm Jor Kal Kest Kor Lam Lor Lum
    Mar Mel Mor Nev Nor Ond Or Pel Pra Quar Ral Ren Rost Sal Sel Sor Stav Tal Tarn Tol Ul Vald Vel Ver Vos Wex
    Wil Yar Zan Zel"""
)
NAME_MIDDLES: Final = _words("""a ad al an ar e el en er i il in ir o ol on or u um un ur ia eo au ei""")
NAME_TAILS: Final = _words(
    """ba bex cade da dane dex dor fax gard ka kor la lan lex lio ma mar mond na nex no nor quist ra rex ric ro sa
    sen stra ta tek tor tra va ven vik vo wyn xa xis za zen"""
)
PLACE_HEADS: Final = _words(
    """Alder Amber Ash Birch Black Bramble Cold Copper Crow Dun East Ember Fair Fern Flint Fox Glen Gold Gran Grey
    Hazel Heron High Holm Iron Ivory Kings Lake Lang Larch Linden Long Marl Mill Moss New North Oak Otter Pine
    Quill Raven Red Rook Rose Salt Sand Silver South Stone Swan Thorn Umber Vale West White Wind Wolf Wren"""
)
PLACE_TAILS: Final = _words(
    """bay borough bridge brook burgh burn bury by cliff combe cross dale den fell field ford gate ham haven hithe
    hollow holt hurst ington land leigh ley mere minster mouth point pool port ridge shaw stead stoke ton vale
    water wick wood worth"""
)
GIVEN_NAMES: Final = _words(
    """Ada Agnes Alma Amir Anton Astrid Aurel Beata Bruno Carla Cyril Dagmar Dario Edda Elias Elif Emil Enzo Esther
    Farah Felix Flora Greta Hakan Hanna Henrik Ida Ines Irma Ivo Jana Jonas Judith Kamil Karim Klara Lena Leon
    Lina Lorenz Magda Malik Mara Marek Mina Mira Nadia Nils Nora Olga Omar Otto Paula Petra Priya Rafael Rosa
    Ruth Samir Selma Silas Sonja Tarik Tess Theo Tilda Ulrik Vera Viktor Wanda Yara Yusuf Zita"""
)
SURNAME_HEADS: Final = _words(
    """Abe Ander Bach Berg Bren Brod Carv Dahl Dern Ekh Falk Fenn Gran Grun Hald Hart Holm Jans Kell Kovar Lind
    Loren Mald Mert Nord Oster Pell Petr Quin Rask Reim Sand Stern Strand Thal Toller Ullm Vand Varg Weid Wint
    Zabr"""
)
SURNAME_TAILS: Final = _words(
    """ak ano berg by dal een ek elli er eux ez gaard hof ic ik ini ison ley low man ov ski sson stad sten ten ult
    une vik"""
)
AGENCIES: Final = ("Northwire", "Meridian Press", "Harbour News Agency", "Continental Desk")
"""Whose texts are told by many sites. Invented."""
SITE_HEADS: Final = _words(
    """daily morning evening weekly north south harbour city metro open global prime first plain blue green red
    silver rapid clear deep bright signal under over cross inter trade field civic river summit"""
)
SITE_TAILS: Final = _words(
    """post herald gazette wire ledger courier dispatch journal observer monitor review report tribune record
    standard echo bulletin digest beacon chronicle brief desk notes index argus mercury sentinel register"""
)
DAYS: Final = (
    "on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "next week", "in spring", "in autumn",
    "next month", "in the new year", "after the holidays", "before winter",
)  # fmt: skip

# -- noise: what belongs to no story -----------------------------------------------------------------------------------

THINGS: Final = _words(
    """accordion alarm algebra almanac ant anvil apron aquarium archive armchair artichoke attic axe backpack
    badger bagel bakery balcony ballad bamboo banjo barley barn barometer basil basket bathtub bee beetroot
    bicycle binoculars birdsong blanket blender blog bonsai bookbinding bookshelf boots bottle bracelet bread
    broom bucket budget buffalo button cactus calendar calligraphy camera campfire candle canoe canvas caravan
    cardigan carpet castle cello ceramics chainsaw chalk cheese cherry chessboard chimney cider cinnamon
    clarinet clay clock cloud coat cobweb coffee comet compass compost cookbook copper coral cork cottage crayon
    crossword cupboard curry curtain dandelion darkroom deadline desk dialect diary dice dictionary diploma
    doorbell drawer dream drum dulcimer dumpling eagle earring easel echo eclipse elevator embroidery emulator
    envelope equation escalator essay falcon fan feather fence fern ferry fiddle firefly fireplace flag
    flashlight flea flour flute fog font fountain fox freckle freezer fridge frog fungus furnace garage garden
    garlic geyser ginger giraffe glass globe glove goat gondola grammar granite grape gravel guitar hammock
    handkerchief handwriting harp hat hawk headphones heater hedge hedgehog helmet herb hiking hinge hobby honey
    horse hourglass hummingbird hurdle ice igloo ink insomnia ivy jacket jam jar jigsaw journal joystick
    juggling kayak kettle keyboard kimono kite kitchen knitting knot labyrinth lace ladder ladle lamp landlord
    lantern laundry lavender lawn leather lemon lentil letter lichen lighthouse lily limerick linen lizard llama
    locksmith loom lullaby lute macaroni magnet magpie mailbox mandolin map marathon marble marmalade mattress
    maze meadow melody memoir metronome microscope mirror mitten moccasin mosquito moth motorbike mousetrap mug
    mushroom mustard napkin nap necklace needle newsletter nightingale noodle notebook novel nutmeg oar oatmeal
    oboe omelette onion opal orchid origami ostrich oven owl oyster paddle pancake paper papyrus parachute
    parrot pasta patchwork pavement peach peacock pebble pelican pen pendulum pepper perfume piano pickle picnic
    pillow pinecone pineapple plaster plumber poem pomegranate pond porridge postcard potato pottery pram
    proverb pumpkin puppet puzzle quilt rabbit radiator radio radish raft raincoat rattle recipe recorder
    refrigerator rhubarb rhyme ribbon riddle robin rosemary rowing rug saddle saffron salad sandal sandcastle
    sauna saxophone scarf scissors scooter screwdriver seagull seaweed sewing shampoo shed shoelace shovel sieve
    skateboard sketchbook sledge sleep slipper snail snowman soap sock sofa soldering sonnet soup sourdough
    spade spanner sparrow spider spinach sponge spoon squirrel staircase stamp stapler starfish stew stool
    stopwatch stove strawberry submarine suitcase sundial sunflower swing synthesiser tablecloth tadpole
    tambourine tango tapestry tea teapot telescope tent terrace thermometer thesaurus thimble thunderstorm tiger
    tile toaster tomato toothbrush tortoise towel tractor trampoline treehouse trombone trousers tulip turnip
    typewriter ukulele umbrella unicycle vase velvet veranda vinegar violin volcano waffle wallet wallpaper
    walnut walrus wardrobe wasp watercolour waterfall weathervane weaving whisk whistle wicker willow windmill
    windowsill wool workbench worm yodel yoga zipper zucchini"""
)
ADJECTIVES: Final = _words(
    """abandoned accidental affordable antique awkward balanced beautiful borrowed broken budget cheap clumsy
    colourful cosy crooked curious damp delicate dusty elegant empty enormous everyday exotic faded fancy
    folding forgotten fragile gentle giant gloomy handmade heavy hidden homemade honest hopeless imaginary
    inherited invisible itchy jolly leaky light lonely loud lucky magnetic mechanical messy miniature minimal
    modular muddy musical narrow neglected noisy old-fashioned ordinary overpriced painted patient peculiar
    perfect plain pocket-sized portable proper quiet reluctant restored rusty second-hand secret serious shared
    shiny silent simple sleepy slow soft spare squeaky stubborn sturdy tangled temporary tidy tiny tired ugly
    unfinished unlikely vintage wandering waterproof weird wobbly wooden"""
)
DOINGS: Final = _words(
    """baking borrowing building burning carrying carving cataloguing chasing cleaning climbing collecting
    colouring cooking copying counting crossing cutting describing designing digging drawing drying explaining
    filming finding fixing folding forgetting framing freezing growing hiding imagining inventing keeping
    labelling learning lending losing mapping measuring mending mixing moving naming packing painting planting
    playing polishing printing pruning repairing replacing restoring rewriting rinsing roasting sanding selling
    sewing sharing shipping sketching soaking sorting stacking storing studying swapping teaching testing
    tidying translating trimming tuning turning typing washing watching watering weighing wrapping writing"""
)
ANIMALS: Final = _words(
    """aardvarks albatrosses alpacas anchovies antelopes armadillos baboons barnacles bats bears beavers bison
    boars bumblebees butterflies camels caribou caterpillars centipedes chameleons cheetahs cicadas clams cobras
    cockatoos cormorants coyotes crabs cranes crickets crocodiles cuckoos deer dolphins donkeys dormice doves
    dragonflies ducks earthworms eels egrets elephants ermine ferrets finches flamingos foals frogs gazelles
    geckos geese gibbons gnats goldfish gorillas grasshoppers grouse hamsters hares hermit-crabs herrings hippos
    hornets hyenas ibexes iguanas jackals jaguars jellyfish kangaroos kestrels kingfishers koalas ladybirds
    larks lemurs leopards limpets lobsters lynxes mackerel mallards manatees marmots martens meerkats moles
    mongooses moose mules mussels narwhals newts nightjars octopuses orcas orioles otters pandas partridges
    pigeons pikes platypuses plovers polecats porcupines prawns puffins pythons quails raccoons reindeer rhinos
    salamanders sardines scorpions seahorses seals sharks shrews skunks sloths slugs squids stallions starlings
    stoats storks sturgeons swallows swans swifts tapirs termites terns thrushes toads toucans trout turkeys
    vipers voles vultures wallabies warblers weasels whales wolverines wombats woodlice woodpeckers yaks zebras"""
)
PLANTS: Final = _words(
    """acacia alder aloe anemone apricot ash aspen aster azalea baobab beech begonia bellflower birch blackthorn
    bluebell bracken bramble broom buttercup camellia cardamom carnation cedar chamomile chestnut chicory
    clematis clover coriander cornflower cowslip crocus cypress daffodil dahlia daisy dill dogwood duckweed
    edelweiss elder elm eucalyptus fennel fern fig flax foxglove freesia fuchsia gentian geranium ginkgo gorse
    guava hawthorn hazel heather hemlock hemp hibiscus holly honeysuckle hops horsetail hyacinth hydrangea iris
    jasmine juniper kelp laburnum larch larkspur laurel liana lilac linden liquorice lotus lupin magnolia
    mahogany maple marigold marjoram mimosa mistletoe moss mulberry myrtle narcissus nettle oleander orchard
    oregano pansy papaya peony periwinkle petunia plane-tree plum poplar poppy primrose quince ragwort rambutan
    reed rhododendron rowan rue rush sage samphire sequoia snapdragon snowdrop sorrel spruce sumac sweetpea
    sycamore tamarind tansy tarragon teak teasel thistle thyme vetch viburnum violet wisteria wormwood yarrow
    yew yucca"""
)
FOODS: Final = _words(
    """aioli almonds asparagus aubergine baklava biryani biscuits blinis borscht brioche broth burritos buttermilk
    capers caramel ceviche chapati chutney chowder couscous crepes croissants custard dolmas doughnuts eclairs
    empanadas falafel fondue frittata fudge gazpacho gelato gingerbread gnocchi goulash granola gravy guacamole
    halva hazelnuts hummus jelly kebabs kedgeree ketchup kimchi lasagne lemonade lollipops marzipan mayonnaise
    meringue miso moussaka muesli muffins naan nachos nougat okra paella pastrami paté pavlova pesto pho pierogi
    pilaf polenta popcorn pretzels profiteroles pudding quesadillas quiche raclette ragout raisins ramen
    ratatouille ravioli relish risotto rusks samosas sauerkraut scones semolina sesame sherbet shortbread sorbet
    souffle strudel sushi tabbouleh tacos tagine tapenade tempura tiramisu toffee tofu tortillas treacle trifle
    truffles tzatziki vanilla vermicelli wasabi yoghurt zabaglione"""
)
TRADES: Final = _words(
    """acrobat actuary apothecary archer archivist astronomer auctioneer baker barber bargee basketmaker beekeeper
    blacksmith boatbuilder bookseller botanist brewer bricklayer butcher butler carpenter cartographer caulker
    chandler chauffeur chemist choirmaster clockmaker clown coachman cobbler conductor confectioner conjuror
    cooper coroner courier cowherd croupier curator dentist diver draughtsman drover dyer electrician engraver
    farrier ferryman fiddler fishmonger florist forester fortune-teller furrier gamekeeper gardener geologist
    glassblower glazier goldsmith governess gravedigger grocer gunsmith haberdasher harpist hatter herbalist
    horologist illustrator innkeeper ironmonger janitor jester jeweller jockey joiner journalist judge juggler
    knifegrinder lacemaker lamplighter librarian lifeguard linguist lumberjack magician mason matron
    mathematician milkman miller milliner miner minstrel mole-catcher mountaineer muralist nanny navigator
    notary nurse optician organist ostler paperboy parson pastrycook pedlar perfumer pharmacist philatelist
    piper plasterer porter postman potter printer puppeteer quarryman radiographer ragman ranger referee
    ropemaker saddler sailmaker scribe sculptor seamstress sexton shepherd shipwright silversmith smuggler
    soapmaker stagehand steeplejack stenographer stevedore stonecutter surveyor swimmer tailor tanner
    taxidermist telegraphist thatcher tinsmith toymaker translator trapper typesetter umpire undertaker
    upholsterer usher ventriloquist veterinarian vintner watchman weaver wheelwright woodcarver zookeeper"""
)
CITIES: Final = _words(
    """Aarhus Abidjan Accra Adelaide Aleppo Algiers Almaty Amman Antwerp Asmara Athens Auckland Baku Bamako Bangkok
    Basel Beirut Belfast Bergen Bilbao Bogota Bologna Bratislava Bremen Brisbane Bruges Bucharest Bukhara Busan
    Cairo Calgary Caracas Cardiff Casablanca Chengdu Chennai Cork Cusco Dakar Damascus Delft Dhaka Dresden
    Dublin Durban Edinburgh Essen Fez Florence Fukuoka Galway Genoa Ghent Girona Gothenburg Granada Graz
    Guadalajara Halifax Hanoi Harare Havana Helsinki Hobart Innsbruck Isfahan Istanbul Izmir Jaipur Jakarta
    Kampala Karachi Kathmandu Kazan Khartoum Kigali Kingston Kobe Krakow Kyoto Lagos Lahore Lausanne Leeds
    Leipzig Lima Lisbon Ljubljana Lodz Luanda Lusaka Luxor Lviv Lyon Madurai Malaga Managua Manila Maputo
    Marrakesh Marseille Medina Melbourne Merida Minsk Mombasa Montevideo Montreal Mumbai Muscat Nagasaki Nairobi
    Nantes Naples Odense Oporto Osaka Oslo Ottawa Oulu Palermo Panama Perth Plovdiv Porto Potsdam Prague Quebec
    Quito Rabat Ravenna Recife Reykjavik Riga Rosario Rotterdam Salvador Salzburg Samarkand Santiago Sapporo
    Sarajevo Seville Sheffield Siena Skopje Sofia Split Strasbourg Surabaya Sydney Szeged Taipei Tallinn Tampere
    Tangier Tashkent Tbilisi Thessaloniki Tirana Toledo Toronto Trieste Tripoli Tromso Tunis Turin Uppsala
    Utrecht Valencia Valletta Valparaiso Vancouver Varna Venice Verona Vienna Vilnius Warsaw Wellington Windhoek
    Yerevan York Zagreb Zanzibar Zurich"""
)
FIELDS: Final = _words(
    """acoustics aerodynamics aesthetics algebra anatomy anthropology arithmetic astrology ballistics biochemistry
    bookkeeping botany calculus calligraphy cartography ceramics choreography chronology combinatorics cosmology
    criminology cryptography crystallography dentistry dialectology diplomacy dramaturgy ecology economics
    electrochemistry embryology entomology epidemiology epistemology ergonomics ethics etymology fencing
    folklore forestry genealogy genetics geodesy geometry glaciology gymnastics heraldry herpetology
    horticulture hydraulics hydrology hypnosis ichthyology immunology jurisprudence kinematics landscaping
    lexicography linguistics logic magnetism mechanics metallurgy metaphysics meteorology microbiology
    mineralogy mycology mythology navigation neurology numismatics nutrition obstetrics oceanography optics
    ornithology paleontology pedagogy penology pharmacology philology phonetics photography phrenology
    physiology pneumatics poetics prosody psychology pyrotechnics radiology rhetoric robotics seismology
    semantics semiotics sociology spectroscopy statistics stenography surgery syntax tailoring taxonomy
    telegraphy theology thermodynamics topology toxicology trigonometry typography urology viticulture
    volcanology weaving wrestling zoology"""
)
ABSTRACTS: Final = _words(
    """accent adolescence ambition anger anniversary apology argument arrogance attention bargain blame boredom
    bravery breakfast bribery bureaucracy calm candour caution celebrity charity chess childhood chivalry
    coincidence comfort commuting compassion confidence courtesy curiosity daydream debt deception delight
    despair discipline disguise divorce doubt drowsiness duty eavesdropping echo elegance embarrassment empathy
    envy etiquette exile failure fame fatigue fidelity flattery folly forgery forgiveness fortune freedom
    friendship frugality gossip gratitude greed grief grudge guilt haste heresy heroism hesitation homesickness
    hospitality humility hunger hygiene idleness ignorance imitation indecision infancy inflation innocence
    irony jealousy justice kindness laughter laziness leisure loneliness longing loyalty luck luxury malice
    marriage melancholy memory mercy mischief modesty mourning mystery nostalgia obedience obsession old-age
    optimism panic parenthood patience perfection persistence pilgrimage piracy politeness poverty praise
    prejudice pride privacy procrastination profit prophecy punctuality puns punishment quarrels rebellion
    regret reincarnation revenge rivalry romance rumour sabotage sacrifice sarcasm scandal scepticism secrecy
    shame shyness silence sincerity slang slumber snobbery solitude sorrow stubbornness superstition surprise
    suspense suspicion sympathy tact talent teamwork temptation tenderness thirst thrift tolerance treachery
    trust vanity vengeance victory vocation wealth widowhood wisdom wit wonder worry youth zeal"""
)
MACHINES: Final = _words(
    """algorithm amplifier antenna bandwidth battery bitmap bootloader bytecode cache capacitor checksum cipher
    cluster compiler cursor daemon database debugger decoder diode driver encoder ethernet firewall firmware
    floppy-disk framebuffer gyroscope hash-table hologram hypervisor interpreter joystick kernel laser lathe
    linker lithium loudspeaker mainframe malware microphone modem motherboard mouse-wheel multiplexer
    neural-network oscilloscope parser piston pixel polygon printer processor proxy pulley query-language regex
    relay resistor rotor router satellite-dish scanner semaphore shader soldering-iron spam-filter spreadsheet
    sprocket syntax-tree telegraph terminal thermostat thread-pool touchscreen transistor turbine typeface
    unit-test valve vacuum-tube webcam winch wiretap"""
)
LAW_AND_MONEY: Final = _words(
    """alimony annuity arbitration auction audit bail bankruptcy bond bonus bookkeeper brokerage cartel cheque
    clause collateral commission compensation consumer-credit contract copyright counterfeit coupon customs
    damages deposit dividend dowry embezzlement endowment equity eviction exchange-rate excise extradition
    franchise freehold futures gambling gratuity hedge-fund heir import-duty indemnity inheritance injunction
    insolvency insurance interest invoice jury lease lending libel licence-fee lien liquidity lobbying lottery
    merger minimum-wage monopoly mortgage notary-fee overdraft parole patent pawnshop payroll pension perjury
    plaintiff portfolio probate procurement promissory-note ransom receipt referendum rent retail royalty salary
    severance shareholder smuggling stamp-duty statute stock-split subpoena subsidy surcharge tariff tax-return
    tender tenancy testament toll trademark treasury trespass trust-fund usury verdict voucher warrant wholesale
    withholding"""
)
BODIES: Final = _words(
    """acne adrenaline allergy amnesia anaesthesia antibody appendix artery arthritis aspirin asthma bandage biopsy
    blister blood-pressure bruise caffeine cartilage cataract chickenpox cholesterol collarbone colon concussion
    contact-lens cornea cough cramp dandruff dementia diaphragm digestion dizziness eardrum eczema elbow enzyme
    eyebrow fever fingerprint forehead fracture gallstone gland gout gum haemoglobin hair-loss hay-fever
    heartbeat hiccup hip hormone immune-system inhaler insulin intestine jaw kidney kneecap laryngitis ligament
    liver lung malaria measles melanin metabolism migraine mumps muscle nausea nerve nostril nutrition
    oesophagus pancreas paralysis penicillin placenta plasma pneumonia posture pregnancy pulse pupil rash reflex
    retina rib saliva scalp sciatica shingles skeleton sneeze spine spleen sprain stammer stethoscope stitches
    stroke sunburn tendon thyroid tinnitus tonsils tooth toothache transplant ulcer vaccine vein vertigo virus
    wart whooping-cough wrist x-ray yawn"""
)
EARTH_AND_SKY: Final = _words(
    """aftershock alluvium archipelago asteroid atoll aurora avalanche basalt bay black-hole blizzard bog canyon
    cave cliff comet constellation continent crater delta desert dew drizzle dune dust-storm dwarf-planet
    earthquake equator erosion estuary exoplanet fault-line fjord flood fog forest-fire fossil galaxy glacier
    gravity-wave gully hail heatwave horizon hurricane ice-age iceberg island jet-stream lagoon landslide lava
    lightning limestone lunar-eclipse magma marsh meridian meteor milky-way monsoon moonlight moraine mudflat
    nebula neutron-star oasis ocean-current ozone peninsula permafrost plateau polar-night prairie quasar
    quicksand rainbow rapids red-shift reef rift river-bed savanna sea-level shoal sinkhole snowflake solar-wind
    solstice spring-tide stalactite steppe sunspot supernova swamp tectonics thunder tide tornado trade-wind
    tsunami tundra typhoon volcanic-ash watershed whirlpool"""
)
PAST_AND_FAITH: Final = _words(
    """abbey abbot altar amulet ancestor archbishop armour bard barricade baptism bayonet bishopric bonfire caliph
    cannon catapult cathedral cavalry chariot chronicle cloister coat-of-arms colony confession consul convent
    coronation count crusade crypt dagger dervish druid duchess dynasty earl emperor excommunication exorcism
    fortress frigate galley gladiator guild guillotine hermit hieroglyph hymn icon incense inquisition knight
    legion longbow manuscript martyr medal mercenary minaret moat monastery monk mosaic mummy musket nomad oath
    oracle pagoda parchment peasant pharaoh pilgrim pirate plague pope prayer prophet psalm pyramid rabbi relic
    republic rosary rune saint samurai sanctuary scaffold sceptre scripture serf shrine siege slave-ship sphinx
    stained-glass sultan sword synagogue tapestry temple throne tomb torture totem tournament trench tribe
    uprising vampire vestal viceroy viking vow witch-trial"""
)
GAMES_AND_ARTS: Final = _words(
    """abseiling acrobatics anagram animation archery aria athletics backgammon badminton ballet baritone baseball
    basketball biathlon billiards bowling boxing bridge-club cabaret canoeing caricature cartoon catwalk
    chamber-music charades checkers choir chorus-line cinema clavichord collage concerto costume cricket-bat
    croquet curling cycling dance-hall darts decathlon discus diving-board documentary dominoes duet etching
    fairy-tale fencing-mask figure-skating film-noir fireworks flamenco fresco gallery golf graffiti gymnast
    handball harmonica high-jump hockey horse-race impressionism jazz judo karaoke karate kickboxing lacrosse
    landscape-painting libretto lute-player marathon-runner masquerade mime miniature-painting musical netball
    opera orchestra overture pantomime parkour pentathlon playwright poker polka polo portrait puppet-theatre
    quiz-night ragtime rally-driving recital referee-whistle relay-race reggae rehearsal rhythm rock-climbing
    roulette rugby samba satire science-fiction scrabble screenplay sculpture serenade silent-film skiing
    snooker soap-opera softball sprint squash-court stage-fright stand-up-comedy still-life storytelling surfing
    swing-band symphony table-tennis tap-dance tarot tennis theatre thriller trampolining trapeze triathlon
    trumpet vaudeville volleyball waltz water-polo weightlifting western wrestling-ring yachting"""
)
CLOTHES_AND_STUFF: Final = _words(
    """aluminium asbestos bakelite beret blazer blouse bodice bonnet bowler-hat bowtie brass braces brocade bronze
    buckle burlap button-hole calico cape cardboard cashmere cement charcoal chiffon chrome clogs cobalt collar
    concrete corduroy corset cotton-wool cravat crinoline cufflinks damask denim dungarees earmuffs enamel
    epaulette felt fibreglass fishnet flannel fleece foil fur galoshes gauze gilding gloss-paint gold-leaf
    graphite gypsum hairpin haute-couture headscarf hem high-heels hoodie insulation iodine jersey jodhpurs jute
    kerosene kilt knickers lacquer latex leggings leotard lime-mortar loincloth mascara mercury mohair muslin
    necktie nickel nightgown nylon overalls overcoat oxide parka petticoat pewter plasterboard platinum plywood
    polyester porcelain pyjamas quartz raincoat-hood resin rhinestone ribbon-bow rubber ruff sackcloth sapphire
    sarong sash satin sequins shawl silicone silk skirt sneakers starch steel stockings suede sulphur suspenders
    sweater tarmac tartan terracotta tinfoil titanium toga tungsten turban turpentine tuxedo tweed underpants
    uniform veil veneer vinyl waistcoat wax wetsuit whalebone wig zinc"""
)
NOISE_PIECES: Final = _lines(
    """{ing} {an}
    {ing} {food} {w}
    {ing} {plant}
    {ing} a {a} {t}
    {a} {an}
    {an} of {city}
    a {trade}
    the {trade} of {city}
    my {t}
    a {a} {t}
    {t} or {m}
    {city} in {year}
    {field}
    {field} and {m}
    {abs}
    {abs} in {city}
    {food}
    {plant}
    {m}
    {m} {ing}
    a {a} {m}
    {l}
    {l} in {city}
    {l} for a {trade}
    {a} {l}
    {b}
    {b} after {ing}
    {abs} and {b}
    {e}
    {e} near {city}
    the {year} {e}
    {f}
    {f} of {city}
    a {a} {f}
    {g}
    {g} {w}
    {g} and {abs}
    {k}
    {a} {k}
    {k} for {g}"""
)
"""a adjective, an animals, b body, e earth and sky, f past and faith, g games and arts, k clothes and stuff, l law and
money, m machines, t thing, w where; the others by their names."""
NOISE_NAMES: Final = _lines(
    """{N}
    {P}
    {H}
    {H} of {P}
    {N} the {trade}
    {N} by {H}
    {N}, {P}
    {N} {year}
    a {t} called {N}
    {P} {an}"""
)
NOISE_JOINS: Final = (
    ": ", ", ", " and ", " with ", " for ", " after ", " without ", " – ", " or ", " as ", " versus ", " from ", "? ",
    " in ", ". ", " on ", " under ", " (",
)  # fmt: skip
NOISE_BODIES: Final = _lines(
    """It began with {food} and a {a} {t}, and ended in {city}.
    A {trade} taught me {field}; {m} and {b} did the rest.
    Nobody in {city} had told me about {e} or {l}.
    There is more {abs} in {ing} than one thinks.
    In {year} such a {k} cost as much as {food} for a month.
    My sister calls it {g}, my father {f}.
    If you own a {m}, you know what {ing2} {w} means."""
)
WHERES: Final = _lines(
    """on a Sunday
    in a rented flat
    in the rain
    by bus
    with toddlers
    without tools
    at dawn
    on paper
    by candlelight
    upstairs"""
)
TAILS: Final = _lines(
    """in {p}
    after {c}
    ({n})
    – {h}
    amid {c}
    near {p}
    and the {u}
    with {h} in {p}
    over the {o}"""
)
"""What a headline may say on top, where it does not yet."""
MATTERS: Final = _lines(
    """over the {o}
    and the {u}
    after {c}
    – {u}
    ({o})"""
)
"""What it must say where its phrasing names neither object nor cause."""
MARKS: Final = (
    THINGS, FOODS, PLANTS, CITIES, FIELDS, TRADES, ABSTRACTS, MACHINES, LAW_AND_MONEY, BODIES, EARTH_AND_SKY,
    PAST_AND_FAITH, GAMES_AND_ARTS, CLOTHES_AND_STUFF,
)  # fmt: skip
"""Everyday words that tell the object of one story from that of another."""
