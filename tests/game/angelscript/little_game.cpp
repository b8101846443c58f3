// A little game that runs a TMInterface plugin: names, arguments and types as public plugins use them, a car that drives
// along z, real sockets. It shows that the plugin compiles and keeps its protocol, not how TMInterface itself behaves.
//
//   little_game PLUGIN.as --check DECLARATION ...    compile, and look for these functions
//   little_game PLUGIN.as --play PORT                play until standard input ends

#include <angelscript.h>
#include <angelscript/scriptarray.h>
#include <angelscript/scriptbuilder.h>
#include <angelscript/scriptstdstring.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#ifdef AS_USE_NAMESPACE
using namespace AngelScript;
#endif

static asIScriptEngine *engine;
static asIScriptModule *module;

static CScriptArray *bytes_of(const std::vector<uint8_t> &content) {
    CScriptArray *found = CScriptArray::Create(engine->GetTypeInfoByDecl("array<uint8>"), asUINT(content.size()));
    if (!content.empty()) std::memcpy(found->GetBuffer(), content.data(), content.size());
    return found;
}

// ---------------------------------------------------------------------- sockets

struct Socket {
    int fd = -1, references = 1;
    void add() { ++references; }
    void release() {
        if (--references) return;
        if (fd >= 0) close(fd);
        delete this;
    }
    bool listen(const std::string &host, uint16_t port) {
        fd = socket(AF_INET, SOCK_STREAM, 0);
        int yes = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        inet_pton(AF_INET, host.c_str(), &address.sin_addr);
        return bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0 && ::listen(fd, 4) == 0;
    }
    Socket *accept(unsigned timeout) {
        pollfd waiting{fd, POLLIN, 0};
        if (poll(&waiting, 1, int(timeout)) <= 0) return nullptr;
        auto *found = new Socket;
        found->fd = ::accept(fd, nullptr, nullptr);
        return found;
    }
    unsigned available() const {
        int number = 0;
        ioctl(fd, FIONREAD, &number);
        return unsigned(number);
    }
    void no_delay(bool on) {
        int value = on;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value);
    }
    std::string remote() const { return "127.0.0.1"; }
    std::vector<uint8_t> take(size_t number) {
        std::vector<uint8_t> found(number);
        size_t done = 0;
        while (done < number) {
            ssize_t more = recv(fd, found.data() + done, number - done, 0);
            if (more <= 0) break;  // as TMInterface: what is missing reads as zeros
            done += size_t(more);
        }
        return found;
    }
    template <class T> T number() {
        T found;
        std::memcpy(&found, take(sizeof found).data(), sizeof found);
        return found;
    }
    uint8_t read_byte() { return number<uint8_t>(); }
    int read_int() { return number<int>(); }
    unsigned read_unsigned() { return number<unsigned>(); }
    float read_float() { return number<float>(); }
    std::string text(unsigned length) {
        auto found = take(length);
        return {found.begin(), found.end()};
    }
    CScriptArray *bytes(unsigned length) { return bytes_of(take(length)); }
    bool give(const void *content, size_t number) { return send(fd, content, number, MSG_NOSIGNAL) == ssize_t(number); }
    bool give_int(int value) { return give(&value, sizeof value); }
    bool give_float(float value) { return give(&value, sizeof value); }
    bool give_text(const std::string &value) { return give(value.data(), value.size()); }
    bool give_bytes(const CScriptArray *value) {
        return give(const_cast<CScriptArray *>(value)->GetBuffer(), value->GetSize());
    }
};
static Socket *new_socket() { return new Socket; }

// ---------------------------------------------------------------------- the race

constexpr int TOTAL = 3, START_MS = -200, STATE_BYTES = 8356 + 4 * TOTAL + 8 * TOTAL;
constexpr float GATE_M = 2.0f, METRES_PER_TICK = 0.05f;

struct State {
    std::vector<uint8_t> content;
    int references = 1;
    void add() { ++references; }
    void release() { if (!--references) delete this; }
    CScriptArray *array() const { return bytes_of(content); }
};
static State *new_state(const CScriptArray *content) {
    auto *found = new State;
    auto *begin = static_cast<uint8_t *>(const_cast<CScriptArray *>(content)->GetBuffer());
    found->content.assign(begin, begin + content->GetSize());
    return found;
}

struct Vec2 { float x, y; };
static void make_vec2(asIScriptGeneric *call) {
    *static_cast<Vec2 *>(call->GetObject()) = {call->GetArgFloat(0), call->GetArgFloat(1)};
}

struct Game {
    int time = START_MS, keys[8] = {}, times[TOTAL] = {-1, -1, -1}, menus = 0;
    float z = 0.0f, speed = 1.0f;
    bool in_tick = false;
    int count() const {
        int found = 0;
        for (int t : times) found += t != -1;
        return found;
    }
    bool finished() const { return count() == TOTAL; }
    State *save() {
        auto *state = new State;
        auto &content = state->content;
        content.assign(STATE_BYTES, 0);
        auto put = [&](int at, auto value) { std::memcpy(content.data() + at, &value, sizeof value); };
        put(4, 1), put(8, 0xFF), put(732, z), put(7892, time), put(8024, count()), put(8032, int(finished()));
        put(1728, float(keys[1])), put(8348, TOTAL), put(8352 + 4 * TOTAL, TOTAL);
        for (int i = 0; i < TOTAL; ++i) put(8356 + 4 * TOTAL + 8 * i, times[i]);
        return state;
    }
    void rewind(State *state) {
        auto get = [&](int at, auto &value) { std::memcpy(&value, state->content.data() + at, sizeof value); };
        get(732, z), get(7892, time);
        for (int i = 0; i < TOTAL; ++i) get(8356 + 4 * TOTAL + 8 * i, times[i]);
    }
    void give_up() {
        time = START_MS, z = 0.0f;
        for (int &t : times) t = -1;
    }
    void prevent() { if (finished()) times[TOTAL - 1] = -1; }
    void press(int key, int value) { keys[key] = value; }
    void set_speed(float value) { speed = value; }
    void nothing() {}
    bool yes() const { return true; }
    int race_time() const { return time; }
    Game *self() { return this; }
    std::string script() const { return keys[1] ? "0.00 press up\n" : ""; }
};
static Game game;
static Game *the_game() { return &game; }
static int game_state() { return game.menus ? 1 : 2; }
static CScriptArray *screenshot(const Vec2 &size) {
    std::vector<uint8_t> pixels(size_t(size.x) * size_t(size.y) * 4);
    for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = uint8_t(i % 4 == 3 ? 255 : int(game.z * 20.0f));
    return bytes_of(pixels);
}
static uint64_t now_ms() {
    using namespace std::chrono;
    return uint64_t(duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count());
}

// ---------------------------------------------------------------------- the console

static double port = 0.0;
static asIScriptFunction *command;
static void log_line(const std::string &line) { std::printf("%s\n", line.c_str()), std::fflush(stdout); }
static void register_variable(const std::string &, double) {}
static double variable(const std::string &) { return port; }
static void register_command(const std::string &, const std::string &, asIScriptFunction *called) { command = called; }
static void execute(const std::string &line) { log_line("> " + line); }
static void show_interface(bool on) { log_line(on ? "> interface shown" : "> interface hidden"); }

struct CommandList {
    std::string content;
    void set(const std::string &text) { content = text; }
    void process(int) {}
    void nothing() {}
};
static CommandList *new_list() { return new CommandList; }
struct Info { void set(const std::string &) {} void nothing() {} };
static Info *new_info() { static Info info; return &info; }

// ---------------------------------------------------------------------- what plugins see

static void check(int result, const char *what) {
    if (result < 0) std::fprintf(stderr, "declaration: %s\n", what), std::exit(3);
}
#define FUNCTION(declaration, f) check(engine->RegisterGlobalFunction(declaration, asFUNCTION(f), asCALL_CDECL), declaration)
#define METHOD(type, declaration, f) \
    check(engine->RegisterObjectMethod(#type, declaration, f, asCALL_THISCALL), declaration)
#define COUNTED(type, cpp)                                                                                              \
    check(engine->RegisterObjectType(#type, 0, asOBJ_REF), #type);                                                      \
    check(engine->RegisterObjectBehaviour(#type, asBEHAVE_ADDREF, "void f()", asMETHOD(cpp, add), asCALL_THISCALL), "+"); \
    check(engine->RegisterObjectBehaviour(#type, asBEHAVE_RELEASE, "void f()", asMETHOD(cpp, release), asCALL_THISCALL), "-")
#define UNCOUNTED(type) check(engine->RegisterObjectType(#type, 0, asOBJ_REF | asOBJ_NOCOUNT), #type)
#define FACTORY(type, declaration, f) \
    check(engine->RegisterObjectBehaviour(#type, asBEHAVE_FACTORY, declaration, asFUNCTION(f), asCALL_CDECL), declaration)
#define SPACE(name) check(engine->SetDefaultNamespace(name), name)

static void choice(const char *type, std::initializer_list<const char *> values) {
    check(engine->RegisterEnum(type), type);
    int number = 0;
    for (const char *value : values) check(engine->RegisterEnumValue(type, value, number++), value);
}

static unsigned array_length(const CScriptArray &array) { return array.GetSize(); }
static unsigned string_length(const std::string &text) { return unsigned(text.size()); }

static void offer() {
    check(engine->RegisterObjectMethod("array<T>", "uint get_Length() const property", asFUNCTION(array_length),
                                       asCALL_CDECL_OBJLAST), "array");
    check(engine->RegisterObjectMethod("string", "uint get_Length() const property", asFUNCTION(string_length),
                                       asCALL_CDECL_OBJLAST), "string");
    SPACE("Net");
    COUNTED(Socket, Socket);
    FACTORY(Socket, "Socket@ f()", new_socket);
    METHOD(Socket, "bool Listen(const string &in host, uint16 port)", asMETHOD(Socket, listen));
    METHOD(Socket, "Socket@ Accept(uint timeout = 0)", asMETHOD(Socket, accept));
    METHOD(Socket, "uint get_Available() const property", asMETHOD(Socket, available));
    METHOD(Socket, "void set_NoDelay(bool) property", asMETHOD(Socket, no_delay));
    METHOD(Socket, "string get_RemoteIP() const property", asMETHOD(Socket, remote));
    METHOD(Socket, "uint8 ReadUint8()", asMETHOD(Socket, read_byte));
    METHOD(Socket, "int ReadInt32()", asMETHOD(Socket, read_int));
    METHOD(Socket, "uint ReadUint32()", asMETHOD(Socket, read_unsigned));
    METHOD(Socket, "float ReadFloat()", asMETHOD(Socket, read_float));
    METHOD(Socket, "string ReadString(uint length)", asMETHOD(Socket, text));
    METHOD(Socket, "array<uint8>@ ReadBytes(uint length)", asMETHOD(Socket, bytes));
    METHOD(Socket, "bool Write(int)", asMETHOD(Socket, give_int));
    METHOD(Socket, "bool Write(float)", asMETHOD(Socket, give_float));
    METHOD(Socket, "bool Write(const string &in)", asMETHOD(Socket, give_text));
    METHOD(Socket, "bool Write(const array<uint8>@+)", asMETHOD(Socket, give_bytes));
    SPACE("Time");
    FUNCTION("uint64 get_Now() property", now_ms);
    SPACE("TM");
    choice("GameState", {"StartUp", "Menus", "LocalRace"});
    UNCOUNTED(PlayerInfo);
    METHOD(PlayerInfo, "bool get_RaceFinished() const property", asMETHOD(Game, finished));
    UNCOUNTED(InputEventBuffer);
    METHOD(InputEventBuffer, "string ToCommandsText() const", asMETHOD(Game, script));
    SPACE("");
    check(engine->RegisterObjectType("vec2", sizeof(Vec2), asOBJ_VALUE | asOBJ_POD), "vec2");
    check(engine->RegisterObjectBehaviour("vec2", asBEHAVE_CONSTRUCT, "void f(float, float)", asFUNCTION(make_vec2),
                                          asCALL_GENERIC), "vec2");
    SPACE("Graphics");
    FUNCTION("array<uint8>@ CaptureScreenshot(const vec2 &in)", screenshot);
    SPACE("");
    choice("InputType", {"Down", "Up", "Left", "Right", "Steer", "Gas", "Respawn"});
    choice("CommandListProcessOption", {"OnlyParse", "QueueAndExecute", "ExecuteImmediately"});
    UNCOUNTED(CommandList);
    FACTORY(CommandList, "CommandList@ f()", new_list);
    METHOD(CommandList, "void set_Content(const string &in) property", asMETHOD(CommandList, set));
    METHOD(CommandList, "void Process(CommandListProcessOption = CommandListProcessOption::QueueAndExecute)",
           asMETHOD(CommandList, process));
    COUNTED(SimulationState, State);
    FACTORY(SimulationState, "SimulationState@ f(const array<uint8>@+)", new_state);
    METHOD(SimulationState, "const array<uint8>@ ToArray() const", asMETHOD(State, array));
    UNCOUNTED(SimulationManager);
    METHOD(SimulationManager, "int get_RaceTime() const property", asMETHOD(Game, race_time));
    METHOD(SimulationManager, "int get_TickTime() const property", asMETHOD(Game, race_time));
    METHOD(SimulationManager, "bool get_InRace() const property", asMETHOD(Game, yes));
    METHOD(SimulationManager, "TM::PlayerInfo@ get_PlayerInfo() const property", asMETHOD(Game, self));
    METHOD(SimulationManager, "TM::InputEventBuffer@ get_InputEvents() const property", asMETHOD(Game, self));
    METHOD(SimulationManager, "SimulationState@ SaveState()", asMETHOD(Game, save));
    METHOD(SimulationManager, "void RewindToState(SimulationState@+)", asMETHOD(Game, rewind));
    METHOD(SimulationManager, "void SetSpeed(float)", asMETHOD(Game, set_speed));
    METHOD(SimulationManager, "void SetInputState(InputType, int)", asMETHOD(Game, press));
    METHOD(SimulationManager, "void GiveUp()", asMETHOD(Game, give_up));
    METHOD(SimulationManager, "void PreventSimulationFinish()", asMETHOD(Game, prevent));
    METHOD(SimulationManager, "void ResetCamera()", asMETHOD(Game, nothing));
    UNCOUNTED(PluginInfo);
    FACTORY(PluginInfo, "PluginInfo@ f()", new_info);
    for (const char *name : {"Name", "Author", "Version", "Description"}) {
        std::string declaration = std::string("void set_") + name + "(const string &in) property";
        METHOD(PluginInfo, declaration.c_str(), asMETHOD(Info, set));
    }
    check(engine->RegisterFuncdef("void OnCommand(int, int, const string &in, const array<string> &in)"), "OnCommand");
    FUNCTION("void log(const string &in)", log_line);
    FUNCTION("void RegisterVariable(const string &in, double)", register_variable);
    FUNCTION("double GetVariableDouble(const string &in)", variable);
    FUNCTION("void RegisterCustomCommand(const string &in, const string &in, OnCommand@)", register_command);
    FUNCTION("void ExecuteCommand(const string &in)", execute);
    FUNCTION("TM::GameState GetCurrentGameState()", game_state);
    FUNCTION("SimulationManager@ GetSimulationManager()", the_game);
    FUNCTION("void ToggleRaceInterface(bool)", show_interface);
}

// ---------------------------------------------------------------------- playing

static asIScriptContext *context;

static void call(asIScriptFunction *function, std::initializer_list<int> numbers = {}, bool with_game = false) {
    context->Prepare(function);
    unsigned at = 0;
    if (with_game) context->SetArgObject(at++, &game);
    for (int number : numbers) context->SetArgDWord(at++, asDWORD(number));
    if (context->Execute() == asEXECUTION_EXCEPTION)
        std::fprintf(stderr, "%s\n", context->GetExceptionString()), std::exit(4);
    context->Unprepare();
}

static void call_named(const char *name, std::initializer_list<int> numbers = {}, bool with_game = false) {
    call(module->GetFunctionByName(name), numbers, with_game);
}

static void play() {
    context = engine->CreateContext();
    call_named("Main");
    std::string line;
    CScriptArray *arguments = CScriptArray::Create(engine->GetTypeInfoByDecl("array<string>"));
    context->Prepare(command);
    context->SetArgAddress(2, &line);
    context->SetArgAddress(3, arguments);
    context->Execute();
    pollfd input{0, POLLIN, 0};
    while (poll(&input, 1, 0) == 0) {
        if (game.speed > 0.0f && !game.finished()) {
            call_named("OnRunStep", {}, true);
            if (game.speed > 0.0f) {
                float before = game.z;
                if (game.time >= 0 && game.keys[1]) game.z += METRES_PER_TICK;
                game.time += 10;
                int count = game.count();
                float gate = GATE_M * float(count + 1);
                if (count < TOTAL && before < gate && game.z >= gate) {
                    game.times[count] = game.time;
                    call_named("OnCheckpointCountChanged", {count + 1, TOTAL}, true);
                }
            }
        }
        call_named("Render");
        if (game.speed == 0.0f) usleep(200);
    }
    call_named("OnDisabled");
}

static void tell(const asSMessageInfo *message, void *) {
    const char *kinds[] = {"error", "warning", "note"};
    std::printf("%s:%d:%d: %s: %s\n", message->section, message->row, message->col, kinds[message->type], message->message);
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    engine = asCreateScriptEngine();
    engine->SetMessageCallback(asFUNCTION(tell), nullptr, asCALL_CDECL);
    RegisterScriptArray(engine, true);
    RegisterStdString(engine);
    offer();
    CScriptBuilder builder;
    if (builder.StartNewModule(engine, "plugin") < 0 || builder.AddSectionFromFile(arguments[1]) < 0) return 2;
    if (builder.BuildModule() < 0) return 1;
    module = engine->GetModule("plugin");
    if (std::string(arguments[2]) == "--play") {
        port = std::atof(arguments[3]);
        play();
        return 0;
    }
    for (int i = 3; i < count; ++i)
        if (!module->GetFunctionByDecl(arguments[i])) return std::printf("error: no function %s\n", arguments[i]), 1;
    return 0;
}
